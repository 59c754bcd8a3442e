"""`memstore verify`: check the consistency of a memory, and repair it with `--repair`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import CorruptStoreError
from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import print_json
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore.pipeline.verify import Problem, VerifyReport


def verify(
    memory: MemoryOption = "",
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that graph, vectors and links are consistent; exit code 1 if they are not."""
    report = _verify_graph_first(memory, repair, as_json)
    if as_json:
        print_json(report.as_json())
    else:
        _show("repaired", report.repaired)
        _show("problem", report.problems)
        _show("pending", report.pending)
        if report.ok:
            print("ok: graph, vectors and links are consistent")
    if not report.ok:
        raise typer.Exit(1)


def _verify_graph_first(location: str, repair: bool, as_json: bool) -> VerifyReport:
    """Verify; with `repair`, first repair a graph that cannot be opened."""
    try:
        return _verify(location, repair, as_json)
    except CorruptStoreError:
        if not repair:
            raise
    from memstore.graph.ladybug import LadybugGraph
    from memstore.pipeline.verify import Problem

    graph = Path(location).expanduser() / "graph"
    repair_done = LadybugGraph.repair(graph)
    report = _verify(location, repair, as_json)
    repaired = [Problem("corrupt_graph", 1, str(graph), repair_done)] if repair_done else []
    return replace(report, repaired=[*repaired, *report.repaired])


def _verify(location: str, repair: bool, as_json: bool) -> VerifyReport:
    with open_memory(location) as store, show_progress(as_json) as progress:
        return store.verify(repair=repair, progress=progress)


def _show(title: str, problems: list[Problem]) -> None:
    for problem in problems:
        print(f"{title}: {problem.kind} ({problem.count:,}, e.g. {problem.example}): {problem.repair}")
