"""`memstore verl`: training data, configuration and checks for verl."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, OptionalMemoryOption, UsageError, with_option_groups
from memstore_cli.output import counted, print_json, print_table
from memstore_cli.verl_config import check, config

if TYPE_CHECKING:
    from memstore_rl.trainers.verl.batches import BatchPlan
    from memstore_rl.trainers.verl.data import DataPlan

verl_app = typer.Typer(help="Training data, configuration and checks for verl.", no_args_is_help=True)


@dataclass(frozen=True)
class SplitOptions:
    """Which queries are used for what, and which are labelled."""

    budget: Annotated[
        list[float] | None,
        typer.Option(
            "--budget",
            min=0.0,
            max=1.0,
            show_default="0.2",
            help="Label this share of a file's training queries or of a memory's labelled queries, for the "
            "modes budget and memory. Repeatable.",
        ),
    ] = None
    mode: Annotated[
        list[str] | None,
        typer.Option("--mode", show_default="all three", help="oracle, budget or memory. Repeatable."),
    ] = None
    validation: Annotated[
        float, typer.Option("--validation", help="Share of validation queries, if the file names no splits.")
    ] = 0.1
    test: Annotated[float, typer.Option("--test", help="Share of test queries, if the file names no splits.")] = 0.2
    seed: Annotated[int, typer.Option("--seed", help="Seed of the choice of labelled queries.")] = 0
    split_seed: Annotated[int, typer.Option("--split-seed", help="Seed of the splits.")] = 0
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", show_default=False, help="System prompt of every row.")
    ] = None

    def plan(self, batches: BatchPlan | None) -> DataPlan:
        """The library's form of these options and of the batches."""
        from memstore_rl.trainers.verl.data import DATA_MODES, DataPlan

        return DataPlan(
            budgets=tuple(self.budget or [0.2]),
            modes=tuple(self.mode or DATA_MODES),  # type: ignore[arg-type]
            validation=self.validation,
            test=self.test,
            seed=self.seed,
            split_seed=self.split_seed,
            system=self.system,
            batches=batches,
        )


@dataclass(frozen=True)
class BatchOptions:
    """The batches of the training files of mode memory."""

    labelled_share: Annotated[
        str,
        typer.Option(
            "--labelled-share",
            metavar="SHARE",
            show_default="half, if the file has labelled and unlabelled rows",
            help="Share of labelled rows in each batch of mode memory, above 0 and at most 1; rows are repeated to "
            "reach it. none: each query once, in the order of the source.",
        ),
    ] = ""
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            show_default="the smallest with this share",
            help="Prompts of a training batch. A multiple of it has the share too.",
        ),
    ] = None
    batch_seed: Annotated[int, typer.Option("--batch-seed", help="Seed of the order of the rows.")] = 0

    def plan(self) -> BatchPlan | None:
        """The library's form of these options."""
        from memstore_rl.trainers.verl.batches import BatchPlan

        if self.labelled_share == "none":
            if self.batch_size is not None:
                raise UsageError("--labelled-share none writes no batches; remove --batch-size")
            return None
        try:
            share = float(self.labelled_share) if self.labelled_share else None
        except ValueError:
            raise UsageError(f"--labelled-share is {self.labelled_share!r}; use a number or none") from None
        return BatchPlan(share, self.batch_size, self.batch_seed)


@with_option_groups
def data(
    output: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", show_default=False, help="New folder for the data.")
    ],
    splits: SplitOptions,
    batches: BatchOptions,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            show_default=False,
            help="Files of records with `query` and, if known, `gold`. Default: the queries of the memory.",
        ),
    ] = None,
    memory: OptionalMemoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write training, validation and test data for verl and TRL, without the ground truth of unlabelled rows."""
    if not sources and not memory:
        raise UsageError("no input given; pass files, or a memory with --memory LOCATION")
    from memstore_rl.benchmarks.queries import queries_of_files, queries_of_memory
    from memstore_rl.trainers.verl.data import audit_note, batch_note, write_data

    plan = splits.plan(batches.plan())
    if sources:
        queries = queries_of_files(sources)
    else:
        with open_memory(memory) as store:
            queries = queries_of_memory(store.graph)
    files = write_data(queries, output, plan)
    if as_json:
        notes = {"note": batch_note(files), "audit_note": audit_note(queries)}
        print_json({"folder": str(output), "files": [file._asdict() for file in files], **notes})
        return
    print(f"{counted(len(queries), 'query', 'queries')}, {len(files)} files in {output}")
    shares = [f"{file.labelled_per_batch} of {file.batch_size}" if file.batch_size else "" for file in files]
    rows = [(file.file, file.rows, file.labelled, share) for file, share in zip(files, shares, strict=True)]
    print_table(("file", "rows", "labelled", "in a batch"), rows)
    for note in filter(None, (batch_note(files), audit_note(queries))):
        print(note)


verl_app.command()(data)
verl_app.command()(config)
verl_app.command()(check)
