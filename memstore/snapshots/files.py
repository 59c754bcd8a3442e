"""Save and load snapshots: Arrow IPC for tables, safetensors for vectors and edge ends, JSON for the manifest.

A snapshot's folder is written atomically (`memstore.snapshots.atomic_folder`). Loading one executes no code.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.snapshots.atomic_folder import atomic_folder
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import EDGE_NAMES

FORMAT = 1
"""Version of the folder's format; a newer one is refused."""
_TABLES = ("queries", "thinkings", "answers", "runs", "reward_models")
_ARRAYS = ("query_x", "thinking_x", "query_has_x", "thinking_has_x")


def save_snapshot(snapshot: Snapshot, folder: Path) -> None:
    """Write a snapshot to a new folder.

    Raises:
        InputError: the folder exists and is not empty.
    """
    with atomic_folder(folder, "snapshot") as building:
        for name in _TABLES:
            _write_table(getattr(snapshot, name), building / f"{name}.arrow")
        arrays = {name: np.ascontiguousarray(getattr(snapshot, name)) for name in _ARRAYS}
        for name, edge in snapshot.edges.items():
            arrays[f"{name}.source"], arrays[f"{name}.target"] = edge.source, edge.target
            _write_table(edge.properties, building / f"edges_{name}.arrow")
        save_file(arrays, building / "arrays.safetensors")
        manifest = {"format": FORMAT, **asdict(snapshot.manifest)}
        (building / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def load_snapshot(folder: Path) -> Snapshot:
    """Read a snapshot from a folder. Its tables are memory-mapped.

    Raises:
        InputError: the folder holds no snapshot, a damaged one, or one of a newer format.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if manifest.pop("format") > FORMAT:
            raise InputError(f"the snapshot {folder} has a newer format; install a newer memstore")
        arrays = load_file(folder / "arrays.safetensors")
        edges = {
            name: EdgeTable(
                arrays[f"{name}.source"], arrays[f"{name}.target"], _read_table(folder / f"edges_{name}.arrow")
            )
            for name in EDGE_NAMES
        }
        tables = {name: _read_table(folder / f"{name}.arrow") for name in _TABLES}
        return Snapshot(
            manifest=Manifest(**manifest), edges=edges, **tables, **{name: arrays[name] for name in _ARRAYS}
        )
    except FileNotFoundError as error:
        raise InputError(f"{folder} is not a snapshot; take one with: memstore snapshot FOLDER") from error
    except (ValueError, KeyError, TypeError, pa.ArrowInvalid, SafetensorError) as error:
        raise InputError(f"the snapshot {folder} is damaged ({error}); take it again from its memory") from error


def _write_table(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def _read_table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
