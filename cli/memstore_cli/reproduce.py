"""`memstore reproduce`: the paper's experiments from one plan, resumable step by step."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.library_logging import quiet_libraries
from memstore_cli.options import JsonOption
from memstore_cli.output import counted, print_json

if TYPE_CHECKING:
    from memstore_rl.reproduction import Reproduction


def reproduce(
    plan: Annotated[Path, typer.Option("--plan", metavar="FILE", show_default=False, help="The plan, a TOML file.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            show_default="the plan's name without .toml",
            help="Folder of everything that is made; the same folder resumes.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every command with its estimated cost, and do nothing.")
    ] = False,
    redo: Annotated[
        list[str] | None,
        typer.Option(
            "--redo",
            metavar="STEP",
            show_default=False,
            help="Do this step again, and all that need it; what they have written is removed. Repeatable.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Reproduce the paper's experiments: rollouts, memory, reward models, trainings, evaluation, tables.

    A step that is done is not done again, so the same command resumes an interrupted one.
    """
    quiet_libraries()
    from memstore_rl import reproduction

    file = reproduction.read_plan(plan)
    place = folder or Path(plan.stem)
    if dry_run:
        document = reproduction.dry_run(file, place, redo=redo or ())
        print_json(document) if as_json else print(reproduction.script(document))
        return
    result = reproduction.reproduce(file, place, partial(print, file=sys.stderr, flush=True), redo=redo or ())
    show_reproduction(result, as_json)
    if not result.complete:
        sys.stdout.flush()
        print(f"error: {result.stop_sentence}", file=sys.stderr)
        raise typer.Exit(1)


def show_reproduction(result: Reproduction, as_json: bool) -> None:
    """Print what was done, and where the tables are."""
    if as_json:
        print_json(
            {"folder": str(result.folder), "steps": result.steps, "done": result.done, "before": result.earlier}
            | {"stopped": [step.name for step in result.stopped], "waiting": result.waiting}
            | {"complete": result.complete, "tables": str(result.tables), "notes": result.notes}
        )
        return
    now, before = len(result.done), len(result.earlier)
    print(f"{counted(now, 'step')} done now, {before} before, of {result.steps}: {result.tables}")
