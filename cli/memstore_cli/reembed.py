"""`memstore reembed`: switch a memory to another embedding model."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from memstore_cli.open_memory import open_memory, read_settings
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress


def reembed(
    memory: MemoryOption = "",
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder",
            show_default=False,
            help="Name or folder of a sentence-transformers model. Default: MEMSTORE_EMBEDDER.",
        ),
    ] = None,
    long_text: Annotated[
        str | None,
        typer.Option(
            "--long-text", show_default=False, help="Embedding of texts over the model's window: mean, head or tail."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Embed and link everything again with another model; the old vectors are kept until this has succeeded.

    The same command resumes an interrupted run. Set MEMSTORE_EMBEDDER to the new model afterwards.
    """
    started = time.perf_counter()
    settings = read_settings(embedder=embedder, long_text=long_text)
    with open_memory(memory) as store, show_progress(as_json) as progress:
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
