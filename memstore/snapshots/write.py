"""Write a snapshot to a folder, from an open memory or from a `Snapshot`.

A memory is written a part at a time: ids and edges first, then texts and vectors in blocks of rows. What is in memory
at once is the ids, the edges and a block. The folder appears when it is complete (`memstore.snapshots.atomic_folder`),
with the files of the reward models in its folder `models`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import StoreError
from memstore.locations.stores import Stores
from memstore.runtime.disk_space import space_errors
from memstore.snapshots.atomic_folder import atomic_folder
from memstore.snapshots.digest import DIGESTED_EDGES, DIGESTED_LABELS, ContentDigest
from memstore.snapshots.folder import MATRICES, FolderWriter
from memstore.snapshots.models import FOLDER, copy_models
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import (
    EDGE_NAMES,
    TABLES,
    columns_of,
    has_vector,
    manifest_of,
    read_edges,
    vectors_of,
)
from memstore.types import FloatMatrix, VectorKind
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import NodeLabel, column_type

BLOCK_ROWS = 32_768
"""Nodes whose texts or vectors are in memory at once."""
_OUTLINE_COLUMNS = {NodeLabel.QUERY: ["id", "vector_key"], NodeLabel.THINKING: ["id", "vector_key", "reward"]}
"""Columns that are read of all nodes at once; of other labels the ids."""
_DROPPED_BLOCKS = 4
"""After so many blocks, what reading them has cached is freed."""


@dataclass(frozen=True)
class WrittenSnapshot:
    """A snapshot that was written to a folder."""

    manifest: Manifest
    queries: int
    thinkings: int
    answers: int


def save_snapshot(snapshot: Snapshot, folder: Path, models: Path | None = None) -> None:
    """Write a snapshot to a new folder.

    Args:
        models: the memory's `models` folder, to take along the files of the snapshot's reward models.

    Raises:
        InputError: the folder exists and is not empty.
        StoreFullError: the disk is full; nothing is left behind.
        StoreError: the folder cannot be written.
    """
    with _new_folder(folder) as building:
        out = FolderWriter(building)
        for name in TABLES.values():
            table = getattr(snapshot, name)
            out.table(name, table.schema, [table])
        for name, edge in snapshot.edges.items():
            out.edges(name, edge)
        for name in MATRICES:
            if (x := getattr(snapshot, name)) is not None:
                out.matrix(name, x.shape, [x], x.dtype)
        for name in ("query_has_x", "thinking_has_x", "has_features"):
            if (has := getattr(snapshot, name)) is not None:
                out.array(name, has)
        if models is not None:
            _copy_models(snapshot.reward_models, models, building)
        out.finish(snapshot.manifest)


def write_snapshot(stores: Stores, folder: Path, *, texts: bool = True, models: Path | None = None) -> WrittenSnapshot:
    """Write a snapshot of an open memory to a new folder; equal to `save_snapshot` of `take_snapshot`.

    Args:
        texts: False leaves out `text`, `gold`, `metadata` and the answers as written.
        models: as for `save_snapshot`.

    Raises:
        InputError: the folder exists and is not empty.
        StoreFullError: the disk is full; nothing is left behind.
        StoreError: the folder cannot be written, or nodes were deleted meanwhile.
    """
    with _new_folder(folder) as building:
        out = FolderWriter(building)
        tables = {label: stores.graph.nodes(label, _OUTLINE_COLUMNS.get(label, ["id"])) for label in TABLES}
        ids = {label: table["id"] for label, table in tables.items()}
        digest = ContentDigest(tables)
        for name in EDGE_NAMES:
            edge = read_edges(stores, name, texts=texts)
            if name in DIGESTED_EDGES:
                digest.add_edges(edge)
            out.edges(name, edge)
        stores.graph.drop_cache()
        for label, name in TABLES.items():
            columns = columns_of(label, texts)
            schema = pa.schema([(column, column_type(label, column)) for column in columns])
            out.table(name, schema, _blocks(stores, label, ids[label], columns))
        for kind, label in LABEL_OF.items():
            _write_vectors(stores, out, kind, tables[label])
        _write_features(stores, out, ids[NodeLabel.THINKING], digest)
        if models is not None:
            _copy_models(stores.graph.nodes(NodeLabel.REWARD_MODEL, ["path"]), models, building)
        manifest = manifest_of(stores, digest.id())
        out.finish(manifest)
    queries, thinkings, answers = (len(ids[label]) for label in DIGESTED_LABELS)
    return WrittenSnapshot(manifest, queries, thinkings, answers)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that appears as `folder` when it is complete; errors of the file system are raised as store errors."""
    try:
        with (
            space_errors(f"there is no space for the snapshot {folder}; free some, and take it again"),
            atomic_folder(folder, "snapshot") as building,
        ):
            yield building
    except OSError as error:
        raise StoreError(f"the snapshot {folder} cannot be written: {error.strerror or error}") from error


def _copy_models(nodes: pa.Table, models: Path, building: Path) -> None:
    """Copy the files of the reward models, whose `path` is relative to the memory's folder."""
    copy_models(models, building / FOLDER, {Path(path).name for path in nodes["path"].to_pylist() if path})


def _blocks(stores: Stores, label: NodeLabel, ids: pa.ChunkedArray, columns: list[str]) -> Iterator[pa.Table]:
    """Columns of the nodes of `ids`, in their order, a block of rows at a time.

    Raises:
        StoreError: a node is no longer in the graph.
    """
    for number, start in enumerate(range(0, len(ids), BLOCK_ROWS), start=1):
        wanted = ids.slice(start, BLOCK_ROWS)
        found = stores.graph.nodes(label, columns, ids=wanted.to_pylist())
        if len(found) != len(wanted):
            raise StoreError("nodes were deleted while the memory was read; take the snapshot again")
        yield found
        if number % _DROPPED_BLOCKS == 0:
            stores.graph.drop_cache()


def _write_vectors(stores: Stores, out: FolderWriter, kind: VectorKind, nodes: pa.Table) -> None:
    """Write the vectors of nodes of which `id` and `vector_key` are known."""
    fingerprint = stores.fingerprint
    parts = (vectors_of(stores, kind, nodes.slice(at, BLOCK_ROWS))[0] for at in range(0, len(nodes), BLOCK_ROWS))
    out.matrix(f"{kind}_x", (0, 0) if fingerprint is None else (len(nodes), fingerprint.dimension), parts)
    out.array(f"{kind}_has_x", has_vector(nodes))


def _write_features(stores: Stores, out: FolderWriter, ids: pa.ChunkedArray, digest: ContentDigest) -> None:
    """Write the features of the rollouts, if any has some."""
    dimension = stores.features_dimension
    if dimension is None:
        return
    absent = pa.array(stores.features.missing(ids.to_pylist()), pa.string())
    has = np.asarray(pc.invert(pc.is_in(ids, value_set=absent)))
    if not has.any():
        return

    def parts() -> Iterator[FloatMatrix]:
        for start in range(0, len(ids), BLOCK_ROWS):
            features = stores.features.fetch(ids.slice(start, BLOCK_ROWS).to_pylist()).vectors
            digest.add_features(features)
            yield features

    out.matrix("features", (len(ids), dimension), parts())
    out.array("has_features", has)
