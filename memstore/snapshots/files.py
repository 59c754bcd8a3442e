"""Load snapshots, from the folders that `memstore.snapshots.write` makes.

Loading one executes no code. The manifest has the checksum of every file but those of the reward models, and loading
validates the tables in full: an Arrow file whose offsets are damaged would otherwise be read outside of its buffers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.snapshots.folder import ARRAYS, DIGESTS, FORMAT, MANIFEST, MATRICES, file_digest, open_matrix
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import EDGE_NAMES, TABLES
from memstore.snapshots.upgrade_snapshot import upgrade_snapshot
from memstore.snapshots.write import save_snapshot
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import SCHEMA_VERSION, EdgeType, node_schema

__all__ = ["load_snapshot", "save_snapshot"]

_MAX_REASON = 200
"""Characters of a reader's error that a message quotes."""
_MAX_MANIFEST = 2**20
"""Longest manifest that is read, in bytes."""
_NEW_PARTS = frozenset({"in", "wrote", "reliable_in", "datasets", "policies"}) | {
    name for name, (edge, _, _) in EDGE_NAMES.items() if edge is EdgeType.INFLUENCED_BY
}
"""Edges and tables that snapshots of schema 1 lack."""
_VECTORS = ("query_x", "thinking_x", "query_has_x", "thinking_has_x")
_FEATURES = ("features", "has_features")
"""Arrays of a snapshot with features; others, and those of older versions, lack them."""


def load_snapshot(folder: Path) -> Snapshot:
    """Read a snapshot from a folder and check it in full. Its tables and vectors are memory-mapped.

    A snapshot of format 1 is read as it is, with its vectors in memory. One of schema 1 is converted
    (`memstore.snapshots.upgrade`).

    Raises:
        InputError: the folder holds no snapshot, a damaged one, or one of a newer format.
    """
    try:
        manifest = _read_manifest(folder)
        version = manifest.pop("format")
        _check_digests(folder, manifest.pop(DIGESTS, None), version, manifest["schema_version"])
        arrays = _read_arrays(folder, version)
        edge_names, table_names = _parts(manifest["schema_version"])
        edges = {
            name: EdgeTable(
                arrays[f"{name}.source"], arrays[f"{name}.target"], _read_table(folder / f"edges_{name}.arrow")
            )
            for name in edge_names
        }
        tables = {name: _read_table(folder / f"{name}.arrow") for name in table_names}
        for label, name in TABLES.items():
            tables.setdefault(name, node_schema(label).empty_table())
        snapshot = Snapshot(
            manifest=Manifest(**manifest),
            edges=edges,
            **tables,
            **{name: arrays[name] for name in _VECTORS},
            **{name: arrays[name] for name in _FEATURES if name in arrays},
        )
        _check_shapes(snapshot)
        return snapshot if snapshot.manifest.schema_version == SCHEMA_VERSION else upgrade_snapshot(snapshot)
    except FileNotFoundError as error:
        raise InputError(f"{folder} is not a snapshot; take one with: memstore snapshot FOLDER") from error
    except OSError as error:
        raise InputError(f"the snapshot {folder} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError, pa.ArrowException, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0][:_MAX_REASON]
        raise InputError(f"the snapshot {folder} is damaged ({reason}); take it again from its memory") from error


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest.

    Raises:
        InputError: the format is newer.
        ValueError: the manifest is damaged.
    """
    with (folder / MANIFEST).open("rb") as file:
        manifest = json.loads(file.read(_MAX_MANIFEST).decode())
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not a JSON object")
    version = manifest.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError("the manifest has no valid format")
    if version > FORMAT:
        raise InputError(f"the snapshot {folder} has a newer format; install a newer memstore")
    expected = {field.name: int if field.name == "schema_version" else str for field in fields(Manifest)}
    for name, kind in expected.items():
        if type(manifest.get(name)) is not kind:
            raise ValueError(f"the manifest has no valid {name}")
    if unknown := manifest.keys() - expected.keys() - {"format", DIGESTS}:
        raise ValueError(f"the manifest has the unknown key {min(unknown)!r:.40}")
    if manifest["schema_version"] > SCHEMA_VERSION:
        raise InputError(f"the snapshot {folder} has a newer schema; install a newer memstore")
    return manifest


def _parts(schema_version: int) -> tuple[list[str], list[str]]:
    """Names of the edges and tables of a snapshot of this schema."""
    new = _NEW_PARTS if schema_version < 2 else frozenset[str]()
    return [name for name in EDGE_NAMES if name not in new], [name for name in TABLES.values() if name not in new]


def _check_digests(folder: Path, digests: object, version: int, schema_version: int) -> None:
    """Compare the files with their digests; a snapshot of memstore 0.1.0 has none."""
    if digests is None:
        return
    names = _file_names(version, schema_version)
    features = names | {"features.npy"} if version > 1 else names
    if not isinstance(digests, Mapping) or digests.keys() not in (names, features):
        raise ValueError("the manifest lists other files")
    for name, digest in digests.items():
        if (_sha256 if version == 1 else file_digest)(folder / name) != digest:
            raise ValueError(f"{name} has another digest than in the manifest")


def _file_names(version: int, schema_version: int) -> set[str]:
    """The files of a snapshot without features."""
    edge_names, table_names = _parts(schema_version)
    edges = {f"edges_{name}.arrow" for name in edge_names}
    vectors = {f"{kind}_x.npy" for kind in LABEL_OF} if version > 1 else set[str]()
    return {f"{name}.arrow" for name in table_names} | edges | vectors | {ARRAYS}


def _read_arrays(folder: Path, version: int) -> dict[str, NDArray[Any]]:
    """All arrays of a snapshot by name. In format 1 they are in one file, which is read and not mapped."""
    arrays: dict[str, NDArray[Any]] = load_file(folder / ARRAYS)
    if version > 1:
        arrays |= {name: open_matrix(path) for name in MATRICES if (path := folder / f"{name}.npy").exists()}
    return arrays


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_shapes(snapshot: Snapshot) -> None:
    """Check that edges and vectors fit the node tables."""
    lengths = {label: len(getattr(snapshot, name)) for label, name in TABLES.items()}
    for kind, label in LABEL_OF.items():
        x, has_x, count = getattr(snapshot, f"{kind}_x"), getattr(snapshot, f"{kind}_has_x"), lengths[label]
        if x.ndim != 2 or x.dtype != np.float32 or len(x) != count or has_x.shape != (count,) or has_x.dtype != bool:
            raise ValueError(f"the vectors of {kind} do not fit the table")
    _check_features(snapshot)
    for name, edge in snapshot.edges.items():
        source, target = (lengths[label] for label in EDGE_NAMES[name][1:])
        # An Arrow file does not keep the number of rows of a table without columns.
        rows = len(edge.properties) if edge.properties.num_columns else len(edge.source)
        if edge.source.shape != (rows,) or edge.target.shape != (rows,):
            raise ValueError(f"the edges {name} do not fit their table")
        for ends, count in ((edge.source, source), (edge.target, target)):
            if not np.issubdtype(ends.dtype, np.integer):
                raise ValueError(f"the edges {name} are not positions")
            if len(ends) and (ends.min() < 0 or ends.max() >= count):
                raise ValueError(f"the edges {name} end outside of the table")


def _check_features(snapshot: Snapshot) -> None:
    """Check that the features, if there are any, fit the rollouts."""
    features, has, count = snapshot.features, snapshot.has_features, len(snapshot.thinkings)
    if features is None and has is None:
        return
    if features is None or has is None or has.shape != (count,) or has.dtype != bool:
        raise ValueError("the features do not fit the table")
    if features.ndim != 2 or features.dtype != np.float32 or len(features) != count or not features.shape[1]:
        raise ValueError("the features do not fit the table")
    if not np.isfinite(features).all():
        raise ValueError("the features have a NaN or an infinity")


def _read_table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_file(source).read_all()
    table.validate(full=True)
    return table
