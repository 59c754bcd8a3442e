"""`memstore restore`: write a snapshot into a new or an existing memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from memstore_cli.open_memory import open_memory
from memstore_cli.options import DeviceOption, JsonOption, MemoryOption
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress


def restore(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder written by memstore snapshot.")],
    memory: MemoryOption = "",
    merge: Annotated[bool, typer.Option("--merge", help="Allow a memory that is not empty.")] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a snapshot into a new memory, or with --merge into an existing one."""
    from memstore.snapshots.files import load_snapshot
    from memstore.snapshots.models import FOLDER

    started = time.perf_counter()
    taken = load_snapshot(folder)
    with open_memory(memory, create=True, device=device) as store, show_progress(as_json) as progress:
        added = store.restore(taken, merge=merge, models=folder / FOLDER, progress=progress)
    seconds = round(time.perf_counter() - started, 3)
    if as_json:
        print_json({"snapshot": taken.manifest.id, "added": added, "seconds": seconds})
    else:
        print(f"snapshot {taken.manifest.id} is in {memory}: {counted(added, 'rollout')} added, {seconds:.1f} s")
