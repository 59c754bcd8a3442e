"""`memstore link`: create missing similarity edges, or all of them with other settings."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption, with_option_groups
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from memstore.vectors.knn.settings import LinkSettings


@dataclass(frozen=True)
class NeighbourOptions:
    """Which links are created."""

    k: Annotated[
        int | None,
        typer.Option(
            "--k", min=1, max=100, show_default=False, help="Neighbours per node; a new value recreates all links."
        ),
    ] = None
    floor: Annotated[
        float | None,
        typer.Option(
            "--floor",
            min=-1.0,
            max=1.0,
            show_default=False,
            help="Minimum cosine of a link; a new value recreates all links.",
        ),
    ] = None

    def settings(self, current: LinkSettings) -> LinkSettings:
        """The current settings, changed by the options that are given."""
        return replace(
            current,
            k=current.k if self.k is None else self.k,
            floor=current.floor if self.floor is None else self.floor,
        )


@with_option_groups
def link(
    neighbours: NeighbourOptions,
    memory: MemoryOption = "",
    as_json: JsonOption = False,
) -> None:
    """Link similar queries and similar thinkings.

    Ingest does this automatically. Run it after `ingest --no-link`, or to change the settings, which are recorded.
    """
    started = time.perf_counter()
    with open_memory(memory) as store:
        settings = neighbours.settings(store.link_settings)
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
