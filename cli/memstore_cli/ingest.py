"""`memstore ingest`: files of rollouts into a memory, made where there is none."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import InputError
from memstore_cli.opening import opened
from memstore_cli.options import (
    DatasetOption,
    DeviceOption,
    DomainOption,
    JsonOption,
    MemoryOption,
    RewardColumnOption,
)
from memstore_cli.output import counted, print_json
from memstore_cli.progress import watched

if TYPE_CHECKING:
    from memstore.memory import Memory
    from memstore.pipeline.ingest import IngestSummary


class LongText(StrEnum):
    """What becomes of a text that is longer than the embedder's window."""

    MEAN = "mean"
    HEAD = "head"
    TAIL = "tail"


def ingest(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE", help="JSONL, gzip or Parquet; - reads JSONL from standard input.")
    ],
    memory: MemoryOption = "",
    dataset: DatasetOption = None,
    domain: DomainOption = None,
    policy: Annotated[
        str | None, typer.Option("--policy", show_default=False, help="The policy of rows that name none.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", show_default=False, help="The run of rows that name none.")
    ] = None,
    reward_column: RewardColumnOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite a reward that the file contradicts; else the row is rejected.")
    ] = False,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            show_default=False,
            help="Where rejected rows go; else into the memory's folder.",
        ),
    ] = None,
    no_link: Annotated[bool, typer.Option("--no-link", help="Do not link yet; memstore link does it later.")] = False,
    long_text: Annotated[
        LongText | None,
        typer.Option(
            "--long-text",
            show_default=False,
            help="For a new memory: of a text over the embedder's window, take the mean of its windows, head or tail.",
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add rollouts to a memory; makes the memory if there is none.

    What is there already is not added again, and a killed ingest is finished by the next one.
    """
    from memstore.records.readers import open_source

    for file in files:
        open_source(file)  # a name that is wrong must not leave an empty memory behind
    with opened(memory, create=True, long_text=long_text, device=device) as store:
        from memstore.pipeline.ingest import IngestOptions
        from memstore.records.record import RecordDefaults

        _check_long_text(store, long_text)
        defaults = RecordDefaults(
            dataset=dataset,
            domain=domain.value if domain else None,
            policy=policy,
            run=run,
            reward_column=reward_column,
        )
        options = IngestOptions(defaults=defaults, replace=replace, link=not no_link)
        with watched(as_json) as progress:
            summary = store.ingest(files, options, rejects_file=rejects, progress=progress)
    if as_json:
        print_json(summary.as_json())
    else:
        show_ingest(summary)
    if summary.rows and summary.rejected == summary.rows:
        raise typer.Exit(1)


def _check_long_text(store: Memory, wanted: LongText | None) -> None:
    recorded = store.fingerprint
    if wanted is not None and recorded is not None and recorded.long_text != wanted:
        raise InputError(
            f"the memory {store.location} was built with --long-text {recorded.long_text}, and this is {wanted}; leave "
            "the option out, or make a new memory from the same files"
        )


def show_ingest(summary: IngestSummary) -> None:
    """Print what an ingest did."""
    if summary.finished_batches:
        print(f"finished {counted(summary.finished_batches, 'batch', 'batches')} that an earlier ingest had begun")
    if summary.unchanged and not (summary.added or summary.changed or summary.rejected):
        print(f"nothing new: {_all_of(summary.unchanged)} in the memory already")
    else:
        print(
            f"{counted(summary.rows, 'row')}: {counted(summary.added, 'rollout')} added, "
            f"{summary.unchanged:,} unchanged, {summary.changed:,} changed; "
            f"{counted(summary.queries_added, 'query', 'queries')} added"
        )
    if summary.rejected:
        print(f"{counted(summary.rejected, 'row')} rejected, kept with their reasons in {summary.rejects_file}")
        for reason in summary.reject_examples:
            print(f"    {reason}")
    if summary.other_keys:
        print(f"kept as metadata: {', '.join(sorted(summary.other_keys))}")
    print(f"links: {summary.links['query']:,} between queries, {summary.links['thinking']:,} between thinkings")
    print(f"seconds: {', '.join(f'{name} {value:.1f}' for name, value in summary.seconds.items())}")


def _all_of(rollouts: int) -> str:
    return "the rollout is" if rollouts == 1 else f"all {rollouts:,} rollouts are"
