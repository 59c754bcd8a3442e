"""`memstore snapshot`: write a read-only copy of the memory to a folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import JsonOption, MemoryOption
from memstore_cli.output import counted, print_json


def snapshot(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder for the snapshot.")],
    memory: MemoryOption = "",
    no_texts: Annotated[bool, typer.Option("--no-texts", help="Leave out texts: smaller, but not a backup.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a read-only, columnar copy: Arrow tables, safetensors, a manifest, and the files of the reward models."""
    started = time.perf_counter()
    with open_memory(memory) as store:
        written = store.write_snapshot(folder, texts=not no_texts)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    counts = {"queries": written.queries, "thinkings": written.thinkings, "answers": written.answers}
    seconds, name = round(time.perf_counter() - started, 3), written.manifest.id
    if as_json:
        print_json({"snapshot": name, "folder": str(folder), **counts, "bytes": size, "seconds": seconds})
        return
    print(
        f"snapshot {name} in {folder}: {counted(counts['queries'], 'query', 'queries')}, "
        f"{counted(counts['thinkings'], 'thinking')}, {size / 2**20:.1f} MB, {seconds:.1f} s"
    )
