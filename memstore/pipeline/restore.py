"""Restore: write a snapshot into a memory, with its nodes, labels, links, predictions and vectors.

A restore uses the same writes as an ingest and is idempotent: run it again after an interruption.

The snapshot's links are written unchanged if the memory holds only nodes of the snapshot. This is checked and written
under the link lease, so that no other process links in between. If the memory holds other nodes too, all nodes are
linked as after an ingest.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import EmbedderError, InputError
from memstore.graph.protocol import EdgeTable, GraphBlock, LinkUpdate, ScoreBatch
from memstore.locations.stores import Stores
from memstore.pipeline.link import link_memory
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatMatrix, VectorKind
from memstore.vectors.knn import LinkSettings
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import NODE_COLUMNS, NodeLabel, node_schema

BATCH = "b-restored"
"""Id of the Batch node of restored rollouts."""
BLOCK_ROWS = 8192
"""Rollouts that are written to the graph in one transaction."""
VECTOR_ROWS = 5000
"""Vectors that are written to the vector store in one request."""


def restore_snapshot(
    stores: Stores, snapshot: Snapshot, *, merge: bool = False, progress: Progress | None = None
) -> int:
    """Write a snapshot into a memory and return how many rollouts were added.

    Args:
        merge: allow a memory that is not empty. Its links are updated for the restored nodes.

    Raises:
        InputError: the memory is not empty and `merge` is False, or the snapshot was taken without texts.
        EmbedderError: another embedder than the memory's made the snapshot's vectors.
    """
    progress = progress or Silent()
    resumed = _check(stores, snapshot, merge)
    settings = LinkSettings.parse(snapshot.manifest.links)
    empty = len(stores.graph.nodes(NodeLabel.THINKING, ["id"])) == 0
    if empty:
        stores.record_link_settings(settings)
    added = _write_nodes(stores, snapshot, progress)
    _write_vectors(stores, "query", snapshot.queries, snapshot.query_x, snapshot.query_has_x, progress)
    _write_vectors(stores, "thinking", snapshot.thinkings, snapshot.thinking_x, snapshot.thinking_has_x, progress)
    linked = (empty or resumed) and stores.link_settings == settings and _write_links(stores, snapshot)
    _write_scores(stores, snapshot)
    stores.graph.write_batch({"id": BATCH, "state": "done"})
    if not linked:
        link_memory(stores, progress=progress)
    stores.graph.checkpoint()
    return added


def _check(stores: Stores, snapshot: Snapshot, merge: bool) -> bool:
    """Check that the snapshot can be restored; return whether this resumes an unfinished restore."""
    if "text" not in snapshot.queries.column_names:
        raise InputError("this snapshot was taken without texts and cannot be restored; take one with texts")
    fingerprint = stores.settled_fingerprint()
    if str(fingerprint) != snapshot.manifest.embedder:
        raise EmbedderError(
            f"the snapshot's vectors were made by {snapshot.manifest.embedder}, but the memory {stores.location} uses "
            f"{fingerprint}; open it with the snapshot's embedder (MEMSTORE_EMBEDDER), or ingest the files again"
        )
    batches = stores.graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist()
    resumed = any(batch["id"] == BATCH and batch["state"] != "done" for batch in batches)
    if not merge and not resumed and len(stores.graph.nodes(NodeLabel.QUERY, ["id"])):
        raise InputError(
            f"the memory {stores.location} is not empty; restore into a new memory, or add to this one with --merge"
        )
    return resumed


def _write_nodes(stores: Stores, snapshot: Snapshot, progress: Progress) -> int:
    """Write nodes and their structural edges in blocks; return how many rollouts were added."""
    total = len(snapshot.thinkings)
    query_of = np.empty(total, dtype=np.int64)
    query_of[snapshot.edges["generates"].target] = snapshot.edges["generates"].source
    leads = snapshot.edges["leads_to"]
    answer_of = np.full(total, -1, dtype=np.int64)
    answer_of[leads.source] = leads.target
    written = np.full(total, -1, dtype=np.int64)
    written[leads.source] = np.arange(len(leads))
    thinkings = _complete(snapshot.thinkings, NodeLabel.THINKING)
    thinkings = thinkings.append_column("query_id", _pick(snapshot.queries["id"], query_of))
    thinkings = thinkings.append_column("answer_id", _pick(snapshot.answers["id"], answer_of))
    thinkings = thinkings.append_column("answer_text", _pick(leads.properties["text"], written))
    queries = _complete(snapshot.queries, NodeLabel.QUERY)
    # Rollouts of one query stand together, so that a block contains few queries.
    order = np.argsort(query_of, kind="stable")
    progress.stage("restore rollouts", total)
    added = 0
    for start in range(0, total, BLOCK_ROWS):
        rows = order[start : start + BLOCK_ROWS]
        answers = np.unique(answer_of[rows])
        names = thinkings["run"].take(pa.array(rows))
        block = GraphBlock(
            queries=queries.take(pa.array(np.unique(query_of[rows]))),
            thinkings=thinkings.take(pa.array(rows)),
            answers=snapshot.answers.take(pa.array(answers[answers >= 0])),
            runs=snapshot.runs.filter(pc.is_in(snapshot.runs["name"], value_set=pc.unique(names))),
            batch={"id": BATCH, "source": snapshot.manifest.id, "state": "open"},
        )
        added += stores.graph.write_block(block).thinkings_added
        progress.advance(len(rows))
    return added


def _complete(nodes: pa.Table, label: NodeLabel) -> pa.Table:
    """Add the bookkeeping columns of a block to a snapshot's node table."""
    schema = node_schema(label)
    for name in NODE_COLUMNS[label]:
        if name not in nodes.column_names:
            value = BATCH if name == "batch" else None
            nodes = nodes.append_column(name, pa.array([value] * len(nodes), schema.field(name).type))
    return nodes.select(schema.names)


def _pick(values: pa.ChunkedArray, positions: np.ndarray) -> pa.ChunkedArray:
    """Values at these positions, null where the position is -1."""
    return values.take(pa.array(positions, mask=positions < 0))


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
        stores.vectors.upsert(kind, ids[rows], np.ascontiguousarray(x[chosen[rows]]))
        progress.advance(len(ids[rows]))
    stores.vectors.flush()


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


def _write_scores(stores: Stores, snapshot: Snapshot) -> None:
    edges = snapshot.edges["scored_by"]
    for position, model in enumerate(snapshot.reward_models.to_pylist()):
        rows = np.flatnonzero(edges.target == position)
        chosen = pa.array(rows)
        scores = pa.table({"id": snapshot.thinkings["id"].take(pa.array(edges.source[rows]))})
        for name in ("probability", "reward", "scored_at"):
            scores = scores.append_column(name, edges.properties[name].take(chosen))
        stores.graph.append_scores(ScoreBatch(model={k: v for k, v in model.items() if v is not None}, scores=scores))
