"""`memstore verify`: does everything fit together, and with `--repair`, mend what does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore.errors import CorruptStoreError
from memstore_cli.opening import opened
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import print_json
from memstore_cli.progress import watched

if TYPE_CHECKING:
    from memstore.pipeline.verify import Problem, VerifyReport


def verify(
    memory: MemoryOption = "",
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare graph, vectors and links; exit code 1 if something does not fit."""
    report = _verify_graph_first(memory, repair, as_json)
    if as_json:
        print_json(report.as_json())
    else:
        _show("mended", report.repaired)
        _show("wrong", report.problems)
        if report.ok:
            print("ok: graph, vectors and links fit together")
    if not report.ok:
        raise typer.Exit(1)


def _verify_graph_first(location: str, repair: bool, as_json: bool) -> VerifyReport:
    """Verify; a graph that does not even open is mended before, where that is wanted."""
    try:
        return _verify(location, repair, as_json)
    except CorruptStoreError:
        if not repair:
            raise
    from memstore.graph.ladybug import LadybugGraph
    from memstore.pipeline.verify import Problem, VerifyReport

    graph = Path(location).expanduser() / "graph"
    done = LadybugGraph.repair(graph)
    report = _verify(location, repair, as_json)
    mended = [Problem("corrupt_graph", 1, str(graph), done)] if done else []
    return VerifyReport(report.problems, [*mended, *report.repaired])


def _verify(location: str, repair: bool, as_json: bool) -> VerifyReport:
    with opened(location) as store, watched(as_json) as progress:
        return store.verify(repair=repair, progress=progress)


def _show(title: str, problems: list[Problem]) -> None:
    for problem in problems:
        print(f"{title}: {problem.kind} ({problem.count:,}, e.g. {problem.example}): {problem.repair}")
