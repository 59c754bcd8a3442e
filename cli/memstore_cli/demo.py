"""`memstore demo`: ingest, train, score and explain the sample rollouts that ship with memstore.

Each step prints a command and then runs exactly that command.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import LocationError
from memstore_cli.open_memory import open_memory

if TYPE_CHECKING:
    from memstore.sample import Sample

BUDGET = 0.2
ABOVE_ITS_VOTES = """
MATCH (q:Query)-[:GENERATES]->(u:Thinking)
WITH q, count(u.id) AS rollouts
MATCH (q)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer)
WITH rollouts, a, count(t.id) AS votes
MATCH (t:Thinking)-[:LEADS_TO]->(a), (t)-[s:SCORED_BY]->(:RewardModel)
WHERE votes > 1
RETURN t.id ORDER BY s.probability - votes * 1.0 / rollouts DESC, t.id LIMIT 1
"""
"""The rollout whose predicted probability exceeds its answer's share of the votes the most."""


def demo(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="New folder for the demo's memory.")
    ] = Path("demo-memory"),
) -> None:
    """Ingest sample rollouts, train on a fifth of the labels, score the rest, and explain a score."""
    if folder.exists():
        raise LocationError(f"{folder} already exists; remove it first: rm -r {shlex.quote(str(folder))}")
    started = time.perf_counter()
    try:
        for number, (title, command) in enumerate(_steps(folder), start=1):
            typer.echo(f"\n[{number}] {title}\n$ memstore {command}\n")
            _run(context, command)
    except BaseException:
        # The folder did not exist before, so that the demo can be run again.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    typer.echo(f"\nThat took {time.perf_counter() - started:.0f} s. The memory is in {folder}. Next, try:\n")
    for title, command in _next(folder):
        typer.echo(f"# {title}\nmemstore {command}\n")


def _steps(folder: Path) -> Iterator[tuple[str, str]]:
    """Title and command of each step. A step is created after the previous one has run."""
    at = f"--memory {shlex.quote(str(folder))}"
    yield "Ingest the rollouts of a small policy: graph, vectors and links.", f"ingest {_sample('arithmetic')} {at}"
    yield "Count what the memory holds.", f"stats {at}"
    yield "Compare the accuracy of two checkpoints of the policy.", f"cypher --query positive-rate {at}"
    yield (
        f"Train a reward model with the labels of {BUDGET:.0%} of the queries; evaluate it on the others.",
        f"train --budget {BUDGET} {at}",
    )
    yield "Predict the reward of every rollout whose label the model has not seen.", f"score {at}"
    yield "List the largest errors of the model.", f"cypher --query disagreements --limit 5 {at}"
    yield (
        "Explain a score far above the answer's votes: the messages whose weights add up to it.",
        f"explain {_above_its_votes(folder)} --write --limit 10 {at}",
    )


def _next(folder: Path) -> Iterator[tuple[str, str]]:
    at = f"--memory {shlex.quote(str(folder))}"
    yield "the same messages in the graph", f"cypher --query why --param rollout={_above_its_votes(folder)} {at}"
    yield "all named queries with their text", "cypher --list"
    yield "groups whose rollouts disagree", f"cypher --query split-groups {at}"
    yield (
        "score rollouts of new problems without adding them to the memory",
        (f"score {_sample('arithmetic_new')} --output scores.jsonl {at}"),
    )
    yield "compare the model with simple baselines at two label budgets", f"evaluate --budget 0.1 --budget 0.3 {at}"
    yield (
        "your own rollouts, one JSON object a line with query, answer and optional fields",
        ("ingest rollouts.jsonl --memory my-memory"),
    )


def _above_its_votes(folder: Path) -> str:
    with open_memory(str(folder)) as store:
        return str(next(iter(store.cypher(ABOVE_ITS_VOTES).rows))[0])


def _sample(name: Sample) -> str:
    """The path of a sample file, relative to the current folder if it is below it."""
    from memstore.sample import sample_path

    path = sample_path(name).resolve()
    here = Path.cwd().resolve()
    return shlex.quote(os.fspath(path.relative_to(here) if path.is_relative_to(here) else path))


def _run(context: typer.Context, command: str) -> None:
    """Run a memstore command line in this process."""
    app = context.find_root().command
    code = app.main(shlex.split(command), prog_name="memstore", standalone_mode=False)
    if code:
        raise typer.Exit(code)
