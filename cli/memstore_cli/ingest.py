"""`memstore ingest`: add files of rollouts to a memory, which is created if it does not exist."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import InputError, MemstoreError
from memstore_cli.open_memory import open_memory
from memstore_cli.options import (
    DatasetOption,
    DeviceOption,
    DomainOption,
    JsonOption,
    MapOption,
    OptionalMemoryOption,
    ReplaceOption,
    RequestsOption,
    RewardColumnOption,
    need_memory,
    record_defaults,
    with_option_groups,
)
from memstore_cli.output import counted, print_json
from memstore_cli.preview import show_previews
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore.memory import Memory
    from memstore.pipeline.ingest import IngestSummary
    from memstore.records.record import RecordDefaults


SHOWN_SKIPPED = 5
"""At most this many of the files in folders that are not read are named."""


class LongText(StrEnum):
    """How a text longer than the embedder's window is embedded."""

    MEAN = "mean"
    HEAD = "head"
    TAIL = "tail"


@dataclass(frozen=True)
class RowDefaults:
    """Default values for rows that lack them."""

    dataset: DatasetOption = None
    domain: DomainOption = None
    policy: Annotated[
        str | None, typer.Option("--policy", show_default=False, help="Policy of rows that name none.")
    ] = None
    run: Annotated[str | None, typer.Option("--run", show_default=False, help="Run of rows that name none.")] = None
    reward_column: RewardColumnOption = None
    paths: MapOption = None
    requests: RequestsOption = None

    def record_defaults(self) -> RecordDefaults:
        """The library's form of these values."""
        return record_defaults(
            self.dataset,
            self.domain,
            self.reward_column,
            policy=self.policy,
            run=self.run,
            paths=self.paths,
            requests=self.requests,
        )


@dataclass(frozen=True)
class WriteOptions:
    """How rows are written."""

    replace: ReplaceOption = False
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            show_default=False,
            help="File for rejected rows. Default: a file in the memory's folder.",
        ),
    ] = None
    no_link: Annotated[
        bool, typer.Option("--no-link", help="Do not create links; memstore link creates them later.")
    ] = False
    long_text: Annotated[
        LongText | None,
        typer.Option(
            "--long-text",
            show_default=False,
            help="For a new memory: embed texts over the embedder's window as the mean of their windows, head or tail.",
        ),
    ] = None
    device: DeviceOption = None


@with_option_groups
def ingest(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="Files of rollouts of any tool, folders or zip archives of them, globs; - is stdin."
        ),
    ],
    row_defaults: RowDefaults,
    writing: WriteOptions,
    memory: OptionalMemoryOption = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be read, and write nothing. Needs no memory.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Add rollouts to a memory; the memory is created if it does not exist.

    Existing rollouts are not added again, and the next ingest finishes an interrupted one.
    """
    from memstore.records.preview import preview
    from memstore.records.readers import expand_paths
    from memstore.records.rollouts import open_rollouts

    location = memory if dry_run else need_memory(memory)
    defaults = row_defaults.record_defaults()
    _name_skipped(files)
    if dry_run:
        previews = preview(files, defaults)
        show_previews(previews, as_json)
        if any(found.error is not None for found in previews) or not any(found.rollouts for found in previews):
            raise typer.Exit(1)
        return
    for file in expand_paths(files):
        open_rollouts(file, defaults)  # fail on a wrong name before a memory is created
    with (
        _no_empty_memory(writing.rejects) as created,
        open_memory(location, create=True, long_text=writing.long_text, device=writing.device) as store,
    ):
        from memstore.pipeline.ingest import IngestOptions

        created.append(store)
        _check_long_text(store, writing.long_text)
        options = IngestOptions(defaults=defaults, replace=writing.replace, link=not writing.no_link)
        with show_progress(as_json) as progress:
            summary = store.ingest(files, options, rejects_file=writing.rejects, progress=progress)
    if summary.rejects_file is not None and not Path(summary.rejects_file).exists():
        summary.rejects_file = None  # it was removed with the empty memory
    if summary.shared_keys:
        print(f"warning: {summary.shared_keys}", file=sys.stderr)
    if as_json:
        print_json(summary.as_json())
    else:
        show_ingest(summary)
    if summary.rows and summary.rejected == summary.rows:
        raise typer.Exit(1)


def _name_skipped(files: list[str]) -> None:
    """Name the files in folders that are not read."""
    from memstore.records.readers import skipped_files

    if skipped := skipped_files(files):
        more = f" and {len(skipped) - SHOWN_SKIPPED:,} more" if len(skipped) > SHOWN_SKIPPED else ""
        print(f"not read: {', '.join(map(str, skipped[:SHOWN_SKIPPED]))}{more}", file=sys.stderr)


@contextmanager
def _no_empty_memory(rejects: Path | None) -> Iterator[list[Memory]]:
    """Remove the memory in the list if this process has created it and no rollout was added.

    Args:
        rejects: the file of rejected rows, which is kept.
    """
    opened: list[Memory] = []
    try:
        yield opened
    finally:
        for memory in opened:
            inside = rejects is not None and rejects.resolve().is_relative_to(memory.folder.resolve())
            if memory.stores.created and not inside and _is_empty(memory):
                shutil.rmtree(memory.folder, ignore_errors=True)


def _is_empty(closed: Memory) -> bool:
    """Whether a memory has no rollouts. If that cannot be read, it counts as having some."""
    from memstore.memory import Memory

    try:
        with Memory.open(closed.location) as memory:
            return not list(memory.cypher("MATCH (t:Thinking) RETURN t.id LIMIT 1").rows)
    except MemstoreError:
        return False


def _check_long_text(store: Memory, requested: LongText | None) -> None:
    recorded = store.fingerprint
    if requested is not None and recorded is not None and recorded.long_text != requested:
        raise InputError(
            f"the memory {store.location} was built with --long-text {recorded.long_text}, not {requested}; leave out "
            "the option, or build a new memory from the same files"
        )


def show_ingest(summary: IngestSummary) -> None:
    """Print the summary of an ingest."""
    if summary.finished_batches:
        print(f"finished {counted(summary.finished_batches, 'batch', 'batches')} of an interrupted ingest")
    if summary.unchanged and not (summary.added or summary.changed or summary.rejected or summary.features_added):
        print(f"nothing new: {_all_of(summary.unchanged)} in the memory already")
    else:
        print(
            f"{counted(summary.rows, 'row')}: {counted(summary.added, 'rollout')} added, "
            f"{summary.unchanged:,} unchanged, {summary.changed:,} changed; "
            f"{counted(summary.queries_added, 'query', 'queries')} added"
        )
    if summary.rejected:
        where = f"rows and reasons are in {summary.rejects_file}" if summary.rejects_file else "the first reasons:"
        print(f"{counted(summary.rejected, 'row')} rejected; {where}")
        for reason in summary.reject_examples:
            print(f"    {reason}")
    if summary.features_added:
        print(f"features of {counted(summary.features_added, 'rollout')} added")
    if summary.other_keys:
        print(f"kept as metadata: {', '.join(sorted(summary.other_keys))}")
    print(f"links: {summary.links['query']:,} between queries, {summary.links['thinking']:,} between thinkings")
    print(f"seconds: {', '.join(f'{name} {value:.1f}' for name, value in summary.seconds.items())}")


def _all_of(rollouts: int) -> str:
    return "the rollout is" if rollouts == 1 else f"all {rollouts:,} rollouts are"
