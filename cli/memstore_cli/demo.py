"""`memstore demo`: the whole loop on the sample rollouts that come with memstore.

Each step prints a command and then runs that very command, so the demo cannot show what the command does not do.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import LocationError
from memstore_cli.opening import opened

if TYPE_CHECKING:
    from memstore.sample import Sample

BUDGET = 0.2
AGAINST_THE_VOTE = """
MATCH (q:Query)-[:GENERATES]->(u:Thinking)
WITH q, count(u.id) AS rollouts
MATCH (q)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer)
WITH rollouts, a, count(t.id) AS votes
MATCH (t:Thinking)-[:LEADS_TO]->(a), (t)-[s:SCORED_BY]->(:RewardModel)
WHERE votes > 1
RETURN t.id ORDER BY s.probability - votes * 1.0 / rollouts DESC, t.id LIMIT 1
"""
"""A rollout whose answer the model believes furthest beyond its share of the votes."""


def demo(
    folder: Annotated[
        Path, typer.Option("--folder", metavar="FOLDER", help="A new folder for the demo's memory.")
    ] = Path("demo-memory"),
) -> None:
    """Build a memory from sample rollouts, learn from a fifth of the labels, score the rest, and look why."""
    if folder.exists():
        remove = f"rm -r {shlex.quote(str(folder))}"
        raise LocationError(f"{folder} is there already; to build it anew, remove it first: {remove}")
    started = time.perf_counter()
    for number, (says, command) in enumerate(_steps(folder), start=1):
        typer.echo(f"\n[{number}] {says}\n$ memstore {command}\n")
        _run(command)
    typer.echo(f"\nThat took {time.perf_counter() - started:.0f} s. The memory is in {folder}; go on with:\n")
    for says, command in _next(folder):
        typer.echo(f"# {says}\nmemstore {command}\n")


def _steps(folder: Path) -> Iterator[tuple[str, str]]:
    """What each step is for, and its command; one is only made when those before it have run."""
    at = f"--memory {shlex.quote(str(folder))}"
    yield (
        "Rollouts that a small policy wrote go into a graph, with vectors and links.",
        f"ingest {_sample('arithmetic')} {at}",
    )
    yield "What is in the memory now?", f"stats {at}"
    yield "Two checkpoints of one policy: how often is each right?", f"cypher --query positive-rate {at}"
    yield (
        f"A reward model sees the ground truth of {BUDGET:.0%} of the queries; the others tell how good it is.",
        f"train --budget {BUDGET} {at}",
    )
    yield "It predicts the reward of every rollout whose ground truth it has not seen.", f"score {at}"
    yield "Where is it most mistaken?", f"cypher --query disagreements --limit 5 {at}"
    with opened(str(folder)) as store:
        rollout = next(iter(store.cypher(AGAINST_THE_VOTE).rows))[0]
    yield (
        "Which answer does it believe far beyond its votes, and why? Votes, labelled rollouts and queries like it.",
        f"cypher --query why --param rollout={rollout} {at}",
    )


def _next(folder: Path) -> Iterator[tuple[str, str]]:
    at = f"--memory {shlex.quote(str(folder))}"
    yield "all questions that have a name, with their text", "cypher --list"
    yield "groups that are split between answers", f"cypher --query split-groups {at}"
    yield (
        "rollouts of other problems, scored against the memory and not added to it",
        (f"score {_sample('arithmetic_new')} --output scores.jsonl {at}"),
    )
    yield "the model beside simple rules, at two label budgets", f"evaluate --budget 0.1 --budget 0.3 {at}"
    yield (
        "your own rollouts, a JSON object a line: query, answer, and what else you know",
        ("ingest rollouts.jsonl --memory my-memory"),
    )


def _sample(name: Sample) -> str:
    """A sample's path as one would type it here."""
    from memstore.sample import sample_path

    path = sample_path(name).resolve()
    here = Path.cwd().resolve()
    return shlex.quote(os.fspath(path.relative_to(here) if path.is_relative_to(here) else path))


def _run(command: str) -> None:
    """Run a command line of memstore in this process."""
    from memstore_cli.main import app

    code = app(shlex.split(command), prog_name="memstore", standalone_mode=False)
    if code:
        raise typer.Exit(code)
