"""`memstore link`: create missing similarity edges, or all of them with other settings."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress


def link(
    memory: MemoryOption = "",
    k: Annotated[
        int | None,
        typer.Option(
            "--k", min=1, max=100, show_default=False, help="Neighbours per node; a new value recreates all links."
        ),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            "--floor",
            min=-1.0,
            max=1.0,
            show_default=False,
            help="Minimum cosine of a link; a new value recreates all links.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Link similar queries and similar thinkings.

    Ingest does this automatically. Run it after `ingest --no-link`, or to change the settings, which are recorded.
    """
    started = time.perf_counter()
    with open_memory(memory) as store:
        current = store.link_settings
        settings = replace(current, k=current.k if k is None else k, floor=current.floor if floor is None else floor)
        with show_progress(as_json) as progress:
            summary = store.link(settings, progress=progress)
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        result = {"links": summary.edges, "nodes": summary.nodes, "recall": summary.recall}
        print_json({**result, "settings": str(settings), "seconds": seconds})
        return
    print(
        f"linked: {counted(summary.nodes['query'], 'query', 'queries')}, "
        f"{counted(summary.nodes['thinking'], 'thinking')} ({settings}, {seconds:.1f} s)"
    )
    print(f"now in the memory: {summary.edges['query']:,} query links, {summary.edges['thinking']:,} thinking links")
    if summary.recall:
        shares = ", ".join(f"{kind} {recall:.1%}" for kind, recall in summary.recall.items())
        print(f"approximate search by the server; recall on a sample: {shares}")
