"""Restore: write a snapshot into a memory, with its nodes, labels, links, predictions, influences,
reliabilities of policies and vectors.

A restore uses the same writes as an ingest. It is open until everything is written, the files of the reward models and
the links included: run it again after an interruption. Restoring a snapshot that the memory holds adds nothing.

A graph that `neo4j-admin` has imported from the snapshot's files (`memstore.pipeline.neo4j_files`) is compared with the
snapshot instead of being written; vectors, features and models are written as for any other.

The snapshot's links are written unchanged if the memory holds only nodes of the snapshot. This is checked and written
under the link lease, so that no other process links in between. If the memory holds other nodes too, all nodes are
linked as after an ingest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import EmbedderError, InputError
from memstore.graph.protocol import EdgeTable, LinkUpdate
from memstore.locations.stores import Stores
from memstore.pipeline.content import IMPORTED, write_influences, write_nodes, write_reliabilities, write_scores
from memstore.pipeline.content import RESTORED as BATCH
from memstore.pipeline.features import features_conflict, write_features
from memstore.pipeline.full_disk import resumable
from memstore.pipeline.link import link_memory
from memstore.pipeline.neo4j_files import check_imported
from memstore.pipeline.verify import mark_short_lists
from memstore.progress import Progress, Silent
from memstore.snapshots.models import FOLDER, copy_models
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import TABLES
from memstore.snapshots.upgrade import Content
from memstore.types import BoolVector, FloatMatrix, VectorKind
from memstore.vectors.knn import LinkSettings
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import NODE_COLUMNS, NodeLabel, node_schema

VECTOR_ROWS = 5000
"""Vectors that are written to the vector store in one request."""


def restore_snapshot(
    stores: Stores,
    snapshot: Snapshot,
    *,
    merge: bool = False,
    models: Path | None = None,
    progress: Progress | None = None,
) -> int:
    """Write a snapshot into a memory and return how many rollouts were added.

    Args:
        merge: allow a memory that is not empty. Its links are updated for the restored nodes.
        models: folder of reward models to copy into the memory's, such as the one in the snapshot's folder.

    Raises:
        InputError: the memory is not empty and `merge` is False, or the snapshot was taken without texts.
        EmbedderError: another embedder than the memory's made the snapshot's vectors.
        StoreFullError: the disk is full; the same call resumes.
        StoreError: the graph was imported and is not that of the snapshot.
    """
    stores.check_writable()
    progress = progress or Silent()
    state = _check(stores, snapshot, merge)
    with resumable(stores):
        if state == "imported":
            return _complete_import(stores, snapshot, models, progress)
        if state != "restored":
            return _restore(stores, snapshot, models, progress, resumed=state == "open")
        if models is not None:
            copy_models(models, stores.location.folder / FOLDER)
    return 0


def _restore(stores: Stores, snapshot: Snapshot, models: Path | None, progress: Progress, *, resumed: bool) -> int:
    settings = LinkSettings.parse(snapshot.manifest.links)
    empty = len(stores.graph.nodes(NodeLabel.THINKING, ["id"])) == 0
    if empty:
        stores.record_link_settings(settings)
    added = _write_nodes(stores, snapshot, progress)
    _write_derived(stores, snapshot, models, progress)
    linked = (empty or resumed) and stores.link_settings == settings and _write_links(stores, snapshot)
    nodes = {label: getattr(snapshot, name) for label, name in TABLES.items()}
    write_scores(stores.graph, Content(nodes, snapshot.edges))
    write_influences(stores.graph, Content(nodes, snapshot.edges))
    write_reliabilities(stores.graph, Content(nodes, snapshot.edges))
    _finish(stores, progress, linked=linked)
    return added


def _complete_import(stores: Stores, snapshot: Snapshot, models: Path | None, progress: Progress) -> int:
    """Check an imported graph, and write what is not in it; return how many rollouts were imported."""
    progress.stage("check the imported graph")
    check_imported(stores.graph, snapshot, str(stores.location))
    stores.record_link_settings(LinkSettings.parse(snapshot.manifest.links))
    _write_derived(stores, snapshot, models, progress)
    _finish(stores, progress, linked=True)
    return len(snapshot.thinkings)


def _write_derived(stores: Stores, snapshot: Snapshot, models: Path | None, progress: Progress) -> None:
    """Write what is not in the graph: vectors, features, and the files of the reward models."""
    _write_vectors(stores, "query", snapshot.queries, snapshot.query_x, snapshot.query_has_x, progress)
    _write_vectors(stores, "thinking", snapshot.thinkings, snapshot.thinking_x, snapshot.thinking_has_x, progress)
    _write_features(stores, snapshot)
    if models is not None:
        copy_models(models, stores.location.folder / FOLDER)


def _finish(stores: Stores, progress: Progress, *, linked: bool) -> None:
    """Link what is not linked, and close the batch; `linked` says that the snapshot's links are in the graph."""
    if linked:
        # A snapshot that was converted from an older schema has short lists; any short list is computed again.
        mark_short_lists(stores)
    link_memory(stores, progress=progress)
    stores.graph.write_batch({"id": BATCH, "state": "done"})
    stores.graph.checkpoint()


def _check(stores: Stores, snapshot: Snapshot, merge: bool) -> Literal["new", "imported", "open", "restored"]:
    """Check that the snapshot can be restored, and how far that is: its graph imported, a restore open or complete."""
    if "text" not in snapshot.queries.column_names:
        raise InputError("this snapshot was taken without texts and cannot be restored; take one with texts")
    fingerprint = stores.settled_fingerprint()
    if str(fingerprint) != snapshot.manifest.embedder:
        raise EmbedderError(
            f"the snapshot's vectors were made by {snapshot.manifest.embedder}, but the memory {stores.location} uses "
            f"{fingerprint}; open it with the snapshot's embedder (MEMSTORE_EMBEDDER), or ingest the files again"
        )
    if snapshot.features is not None and (
        conflict := features_conflict(snapshot.features.shape[1], stores.features_dimension)
    ):
        raise InputError(f"the snapshot {snapshot.manifest.id} cannot be restored here: {conflict}")
    for batch in stores.graph.nodes(NodeLabel.BATCH, ["id", "source", "state"]).to_pylist():
        if batch["id"] == BATCH and batch["source"] == snapshot.manifest.id:
            if batch["state"] != "done":
                return "imported" if batch["state"] == IMPORTED else "open"
            if not merge and _holds_all(stores, snapshot):
                return "restored"
    if not merge and len(stores.graph.nodes(NodeLabel.QUERY, ["id"])):
        raise InputError(
            f"the memory {stores.location} is not empty; restore into a new memory, or add to this one with --merge"
        )
    return "new"


def _holds_all(stores: Stores, snapshot: Snapshot) -> bool:
    stored = stores.graph.nodes(NodeLabel.THINKING, ["id"])["id"]
    return bool(pc.all(pc.is_in(snapshot.thinkings["id"], value_set=stored)).as_py())


def _write_nodes(stores: Stores, snapshot: Snapshot, progress: Progress) -> int:
    """Write nodes and their structural edges in blocks; return how many rollouts were added."""
    nodes = {label: getattr(snapshot, name) for label, name in TABLES.items()}
    nodes |= {label: _complete(nodes[label], label) for label in (NodeLabel.QUERY, NodeLabel.THINKING)}
    progress.stage("restore rollouts", len(snapshot.thinkings))
    batch = {"id": BATCH, "source": snapshot.manifest.id, "state": "open"}
    return write_nodes(stores.graph, Content(nodes, snapshot.edges), batch, progress)


def _complete(nodes: pa.Table, label: NodeLabel) -> pa.Table:
    """Add the bookkeeping columns of a block to a snapshot's node table."""
    schema = node_schema(label)
    for name in NODE_COLUMNS[label]:
        if name not in nodes.column_names:
            value = BATCH if name == "batch" else None
            nodes = nodes.append_column(name, pa.array([value] * len(nodes), schema.field(name).type))
    return nodes.select(schema.names)


def _write_vectors(
    stores: Stores, kind: VectorKind, nodes: pa.Table, x: FloatMatrix, has: BoolVector, progress: Progress
) -> None:
    """Write the snapshot's vectors to the cache and the vector store."""
    chosen = np.flatnonzero(has)
    ids = nodes["id"].take(pa.array(chosen)).to_pylist()
    keys = nodes["vector_key"].take(pa.array(chosen)).to_pylist()
    progress.stage(f"restore {LABEL_OF[kind]} vectors", len(ids))
    absent = np.flatnonzero(stores.cache.lookup(keys) < 0)
    first = {keys[position]: position for position in absent[::-1]}
    if first:
        stores.cache.append(list(first), np.ascontiguousarray(x[chosen[list(first.values())]]))
    for start in range(0, len(ids), VECTOR_ROWS):
        rows = slice(start, start + VECTOR_ROWS)
        stores.vectors.upsert(kind, ids[rows], np.ascontiguousarray(x[chosen[rows]]), keys=keys[rows])
        progress.advance(len(ids[rows]))
    stores.vectors.flush()


def _write_features(stores: Stores, snapshot: Snapshot) -> None:
    """Write the features of the snapshot's rollouts, of those that have some."""
    if snapshot.features is None or snapshot.has_features is None:
        return
    chosen = np.flatnonzero(snapshot.has_features)
    ids = snapshot.thinkings["id"].take(pa.array(chosen)).to_pylist()
    write_features(stores, ids, snapshot.features[chosen])


def _write_links(stores: Stores, snapshot: Snapshot) -> bool:
    """Write the snapshot's neighbour lists; write nothing and return False if the memory holds other nodes too."""
    lists = (
        (NodeLabel.QUERY, snapshot.queries["id"], snapshot.edges["query_similar"]),
        (NodeLabel.THINKING, snapshot.thinkings["id"], snapshot.edges["thinking_similar"]),
    )
    with stores.graph.linking():
        for label, ids, _ in lists:
            stored = stores.graph.nodes(label, ["id"])["id"]
            if pc.any(pc.invert(pc.is_in(stored, value_set=ids))).as_py():
                return False
        for label, ids, edges in lists:
            _replace_links(stores, label, ids, edges)
    return True


def _replace_links(stores: Stores, label: NodeLabel, ids: pa.ChunkedArray, edges: EdgeTable) -> None:
    table = pa.table(
        {
            "source": ids.take(pa.array(edges.source)),
            "target": ids.take(pa.array(edges.target)),
            "score": edges.properties["score"],
        }
    )
    everything = ids.to_pylist()
    stores.graph.replace_links(LinkUpdate(label, everything, table, everything, fingerprint=stores.link_mark))
