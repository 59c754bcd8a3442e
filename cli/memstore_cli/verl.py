"""`memstore verl`: what a verl training needs of memstore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import JsonOption, UsageError
from memstore_cli.output import counted, print_json, print_table
from memstore_cli.verl_config import check, config

verl_app = typer.Typer(help="Training data, configuration and checks for verl.", no_args_is_help=True)


@verl_app.command()
def data(
    output: Annotated[
        Path, typer.Option("--output", metavar="FOLDER", show_default=False, help="A new folder for the data.")
    ],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            show_default=False,
            help="Files of records, of which `query` is needed and `gold` wanted; without any: the memory's queries.",
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            "--memory",
            envvar="MEMSTORE_MEMORY",
            metavar="LOCATION",
            show_default=False,
            help="The memory whose queries are taken where no file is named.",
        ),
    ] = "",
    budget: Annotated[
        list[float] | None,
        typer.Option(
            "--budget",
            min=0.0,
            max=1.0,
            show_default=False,
            help="Label this share of the training queries, for the modes budget and memory; may be given again. 0.2.",
        ),
    ] = None,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            "--mode",
            show_default=False,
            help="oracle, budget or memory; may be given again. Without it: all three.",
        ),
    ] = None,
    validation: Annotated[
        float, typer.Option("--validation", help="Share of the queries for validation, where the file does not say.")
    ] = 0.1,
    test: Annotated[
        float, typer.Option("--test", help="Share of the queries for testing, where the file does not say.")
    ] = 0.2,
    seed: Annotated[int, typer.Option("--seed", help="Another seed labels other queries.")] = 0,
    split_seed: Annotated[int, typer.Option("--split-seed", help="Another seed trains on other queries.")] = 0,
    system: Annotated[
        str | None, typer.Option("--system", metavar="TEXT", show_default=False, help="A system prompt for every row.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write training, validation and test data for verl; ground truth of unlabelled rows is left out."""
    if not sources and not memory:
        raise UsageError("there is nothing to read; name files, or a memory with --memory LOCATION")
    from memstore_rl.benchmarks.queries import queries_of_files, queries_of_memory
    from memstore_rl.rewards.reward import MODES
    from memstore_rl.trainers.verl.data import DataPlan, write_data

    plan = DataPlan(
        budgets=tuple(budget or [0.2]),
        modes=tuple(mode or MODES),  # type: ignore[arg-type]
        validation=validation,
        test=test,
        seed=seed,
        split_seed=split_seed,
        system=system,
    )
    if sources:
        queries = queries_of_files(sources)
    else:
        with opened(memory) as store:
            queries = queries_of_memory(store.graph)
    files = write_data(queries, output, plan)
    if as_json:
        print_json({"folder": str(output), "files": [file._asdict() for file in files]})
        return
    print(f"{counted(len(queries), 'query', 'queries')}, {len(files)} files in {output}")
    print_table(("file", "rows", "labelled"), [(file.file, file.rows, file.labelled) for file in files])


verl_app.command()(config)
verl_app.command()(check)
