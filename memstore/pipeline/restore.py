"""Restore a snapshot into a memory: nodes, labels, links, predictions and vectors, as they were.

Goes through the same writes as ingest, so it is idempotent: a restore that was killed is simply run again.

Links are written as they were where the memory holds nothing but the snapshot, looked at in a turn of its own (nobody
else links meanwhile); where something was there before, or others came in, all is linked as after an ingest.
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
BLOCK_ROWS = 8192
VECTOR_ROWS = 5000


def restore_snapshot(
    stores: Stores, snapshot: Snapshot, *, merge: bool = False, progress: Progress | None = None
) -> int:
    """Write a snapshot into a memory; return how many rollouts were added.

    Args:
        merge: allow a memory that has content. Its links are then brought up to date with what came in.

    Raises:
        InputError: the memory has content and `merge` is False, or the snapshot was taken without texts.
        EmbedderError: the snapshot's vectors are of another embedder than the memory's.
    """
    progress = progress or Silent()
    begun = _check(stores, snapshot, merge)
    settings = LinkSettings.parse(snapshot.manifest.links)
    empty = len(stores.graph.nodes(NodeLabel.THINKING, ["id"])) == 0
    if empty:
        stores.record_link_settings(settings)
    added = _write_nodes(stores, snapshot, progress)
    _write_vectors(stores, "query", snapshot.queries, snapshot.query_x, snapshot.query_has_x, progress)
    _write_vectors(stores, "thinking", snapshot.thinkings, snapshot.thinking_x, snapshot.thinking_has_x, progress)
    linked = (empty or begun) and stores.link_settings == settings and _write_links(stores, snapshot)
    _write_scores(stores, snapshot)
    stores.graph.write_batch({"id": BATCH, "state": "done"})
    if not linked:
        link_memory(stores, progress=progress)
    stores.graph.checkpoint()
    return added


def _check(stores: Stores, snapshot: Snapshot, merge: bool) -> bool:
    """Refuse what cannot be restored; whether a restore was begun here and not finished."""
    if "text" not in snapshot.queries.column_names:
        raise InputError("this snapshot was taken without texts and cannot be restored; take a whole one")
    fingerprint = stores.settled_fingerprint()
    if str(fingerprint) != snapshot.manifest.embedder:
        raise EmbedderError(
            f"the snapshot's vectors are of {snapshot.manifest.embedder}, and the memory {stores.location} has "
            f"{fingerprint}; restore it with its own embedder (MEMSTORE_EMBEDDER), or ingest the files again"
        )
    batches = stores.graph.nodes(NodeLabel.BATCH, ["id", "state"]).to_pylist()
    begun = any(batch["id"] == BATCH and batch["state"] != "done" for batch in batches)
    if not merge and not begun and len(stores.graph.nodes(NodeLabel.QUERY, ["id"])):
        raise InputError(
            f"the memory {stores.location} has content; restore into a new one, or pass --merge to add to it"
        )
    return begun


def _write_nodes(stores: Stores, snapshot: Snapshot, progress: Progress) -> int:
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
    # Rollouts of one query together, so that a block needs few queries.
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
    """A snapshot's node table with the bookkeeping columns of a block."""
    schema = node_schema(label)
    for name in NODE_COLUMNS[label]:
        if name not in nodes.column_names:
            value = BATCH if name == "batch" else None
            nodes = nodes.append_column(name, pa.array([value] * len(nodes), schema.field(name).type))
    return nodes.select(schema.names)


def _pick(values: pa.ChunkedArray, positions: np.ndarray) -> pa.ChunkedArray:
    """Values at these positions, null at -1."""
    return values.take(pa.array(positions, mask=positions < 0))


def _write_vectors(
    stores: Stores, kind: VectorKind, nodes: pa.Table, x: FloatMatrix, has: BoolVector, progress: Progress
) -> None:
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
    """Write the neighbour lists as they were; False, and nothing written, where the memory holds other nodes too."""
    lists = (
        (NodeLabel.QUERY, snapshot.queries["id"], snapshot.edges["query_similar"]),
        (NodeLabel.THINKING, snapshot.thinkings["id"], snapshot.edges["thinking_similar"]),
    )
    with stores.graph.linking():
        for label, ids, _ in lists:
            there = stores.graph.nodes(label, ["id"])["id"]
            if pc.any(pc.invert(pc.is_in(there, value_set=ids))).as_py():
                return False
        for label, ids, edges in lists:
            _replace(stores, label, ids, edges)
    return True


def _replace(stores: Stores, label: NodeLabel, ids: pa.ChunkedArray, edges: EdgeTable) -> None:
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
