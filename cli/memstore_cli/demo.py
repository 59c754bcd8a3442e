"""`memstore demo`: the whole loop on the sample rollouts that come with memstore.

Each step prints a command and then runs that very command, so the demo cannot show what the command does not do.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from memstore.errors import LocationError

BUDGET = 0.2


def demo(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="A new folder for the demo's memory.")
    ] = Path("demo-memory"),
) -> None:
    """Build a memory from sample rollouts, learn from a fifth of the labels, score the rest, and look why."""
    memory = shlex.quote(str(folder))
    if folder.exists():
        raise LocationError(f"{folder} is there already; remove it with: rm -r {memory}")
    started = time.perf_counter()
    for number, (says, command) in enumerate(_steps(memory), start=1):
        typer.echo(f"\n[{number}] {says}\n$ memstore {command}\n")
        _run(command)
    typer.echo(f"\nThe demo took {time.perf_counter() - started:.0f} s. Its memory is in {folder}; go on with:\n")
    for says, command in _next(memory):
        typer.echo(f"    memstore {command:<72} # {says}")


def _steps(memory: str) -> Iterator[tuple[str, str]]:
    from memstore.sample import sample_path

    sample = shlex.quote(str(sample_path()))
    at = f"--memory {memory}"
    yield "Rollouts of a small policy on word problems go in: graph, vectors, links.", f"ingest {sample} {at}"
    yield "What is in the memory now?", f"stats {at}"
    yield (
        f"A reward model learns from {BUDGET:.0%} of the labelled queries and is measured on the others.",
        f"train --budget {BUDGET} {at}",
    )
    yield "Its predictions for every rollout without a ground truth are written beside them.", f"score {at}"


def _next(memory: str) -> Iterator[tuple[str, str]]:
    yield "cypher --list", "the questions that have a name"


def _run(command: str) -> None:
    """Run a command line of memstore in this process."""
    from memstore_cli.main import app

    code = app(shlex.split(command), prog_name="memstore", standalone_mode=False)
    if code:
        raise typer.Exit(code)
