"""`memstore reembed`: move a memory to another embedder."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from memstore_cli.opening import opened, read_settings
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import counted, print_json
from memstore_cli.progress import watched


def reembed(
    memory: MemoryOption = "",
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            show_default=False,
            help="A sentence-transformers model by name, or its folder; absent: MEMSTORE_EMBEDDER.",
        ),
    ] = None,
    long_text: Annotated[
        str | None,
        typer.Option("--long-text", show_default=False, help="What becomes of a text beyond the model's window."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Embed everything with another model and link it anew; the old vectors stay until that has succeeded.

    A run that was interrupted is finished by the same command. Set MEMSTORE_EMBEDDER to the new model afterwards.
    """
    started = time.perf_counter()
    settings = read_settings(embedder=embedder, long_text=long_text)
    with opened(memory) as store, watched(as_json) as progress:
        from memstore.embedding.minilm import load_embedder

        new = load_embedder(settings.embedder, device=settings.device, long_text=settings.long_text)
        summary = store.reembed(new, progress=progress)
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        print_json({**summary.as_json(), "seconds": seconds})
        return
    print(
        f"from {summary.before} to {summary.after}: {counted(summary.vectors['query'], 'query', 'queries')}, "
        f"{counted(summary.vectors['thinking'], 'thinking')} ({seconds:.1f} s)"
    )
    print(f"now in the memory: {summary.links['query']:,} query links, {summary.links['thinking']:,} thinking links")
