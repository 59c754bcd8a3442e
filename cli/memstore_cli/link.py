"""`memstore link`: similarity edges where they lack, or all of them anew under other settings."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated

import typer

from memstore_cli.opening import opened
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import counted, print_json
from memstore_cli.progress import watched


def link(
    memory: MemoryOption = "",
    k: Annotated[
        int | None,
        typer.Option("--k", min=1, max=100, show_default=False, help="Neighbours a node; other than now relinks all."),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            "--floor", min=-1.0, max=1.0, show_default=False, help="No edge below this cosine; likewise relinks all."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Link similar queries and similar thinkings.

    Ingest does this by itself; call it after `ingest --no-link`, or to change the settings, which are recorded.
    """
    started = time.perf_counter()
    with opened(memory) as store:
        now = store.link_settings
        wanted = replace(now, k=now.k if k is None else k, floor=now.floor if floor is None else floor)
        with watched(as_json) as progress:
            summary = store.link(wanted, progress=progress)
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        done = {"links": summary.edges, "nodes": summary.nodes, "recall": summary.recall}
        print_json({**done, "settings": str(wanted), "seconds": seconds})
        return
    print(
        f"linked: {counted(summary.nodes['query'], 'query', 'queries')}, "
        f"{counted(summary.nodes['thinking'], 'thinking')} ({wanted}, {seconds:.1f} s)"
    )
    print(f"now in the memory: {summary.edges['query']:,} query links, {summary.edges['thinking']:,} thinking links")
    if summary.recall:
        shares = ", ".join(f"{kind} {recall:.1%}" for kind, recall in summary.recall.items())
        print(f"searched by the server; of a sample's true neighbours it found: {shares}")
