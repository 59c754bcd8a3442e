"""`memstore verify`: does everything fit together, and with `--repair`, mend what does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from memstore.errors import CorruptStoreError
from memstore_cli.opening import opened
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import print_json, print_table
from memstore_cli.progress import watched


def verify(
    memory: MemoryOption = "",
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare graph, vectors and links; exit code 1 if something does not fit."""
    reopened = repair and _repair_graph(memory)
    with opened(memory) as store, watched(as_json) as progress:
        report = store.verify(repair=repair, progress=progress)
    if as_json:
        print_json(report.as_json() | {"graph_repaired": reopened})
    else:
        for title, problems in (("mended", report.repaired), ("wrong", report.problems)):
            if problems:
                print(f"{title}:")
                print_table(
                    ("kind", "count", "example", "repair"), [(p.kind, p.count, p.example, p.repair) for p in problems]
                )
        if report.ok:
            print("ok: graph, vectors and links fit together")
    if not report.ok:
        raise typer.Exit(1)


def _repair_graph(location: str) -> bool:
    """Mend a graph that does not open; False where it opens as it is."""
    try:
        with opened(location):
            return False
    except CorruptStoreError:
        from memstore.graph.ladybug import LadybugGraph

        LadybugGraph.repair(Path(location).expanduser() / "graph")
        return True
