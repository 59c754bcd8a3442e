"""Take a snapshot of an open memory, with bulk columnar reads. The memory is not changed."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import EdgeTable
from memstore.locations.stores import Stores
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.types import BoolVector, FloatMatrix, VectorKind
from memstore_schema.columns import NODE_COLUMNS, SCHEMA_VERSION, EdgeType, NodeLabel

TEXT_COLUMNS = frozenset({"text", "gold", "metadata"})
"""Columns that a snapshot without texts lacks."""
BOOKKEEPING = frozenset({"linked", "batch"})
"""Columns that no snapshot has."""

EDGE_NAMES: dict[str, tuple[EdgeType, NodeLabel, NodeLabel]] = {
    "generates": (EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING),
    "leads_to": (EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER),
    "produced": (EdgeType.PRODUCED, NodeLabel.RUN, NodeLabel.THINKING),
    "query_similar": (EdgeType.SIMILAR_TO, NodeLabel.QUERY, NodeLabel.QUERY),
    "thinking_similar": (EdgeType.SIMILAR_TO, NodeLabel.THINKING, NodeLabel.THINKING),
    "scored_by": (EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL),
}
"""Edge type, source label and target label of each edge table of a snapshot."""


def manifest_of(stores: Stores, digest: str) -> Manifest:
    """The manifest of a memory's content; `digest` becomes its id."""
    fingerprint = stores.fingerprint
    return Manifest(
        id=digest,
        schema_version=SCHEMA_VERSION,
        embedder=str(fingerprint) if fingerprint else "",
        splitter=stores.splitter,
        links=str(stores.link_settings),
        namespace=stores.namespace,
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    )


def take_snapshot(stores: Stores, *, texts: bool = True) -> Snapshot:
    """Copy a memory's nodes, edges and vectors into a snapshot.

    Args:
        texts: False leaves out `text`, `gold`, `metadata` and the answers as written.
    """
    tables = {
        label: stores.graph.nodes(label, _columns(label, texts))
        for label in (NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER, NodeLabel.RUN, NodeLabel.REWARD_MODEL)
    }
    edges = {}
    for name, (edge, source, target) in EDGE_NAMES.items():
        found = stores.graph.edges(edge, source, target)
        if name == "leads_to" and not texts:
            found = EdgeTable(found.source, found.target, found.properties.drop_columns(["text"]))
        edges[name] = found
    query_x, query_has_x = _vectors(stores, "query", tables[NodeLabel.QUERY])
    thinking_x, thinking_has_x = _vectors(stores, "thinking", tables[NodeLabel.THINKING])
    return Snapshot(
        manifest=manifest_of(stores, content_digest(tables, edges)),
        queries=tables[NodeLabel.QUERY],
        thinkings=tables[NodeLabel.THINKING],
        answers=tables[NodeLabel.ANSWER],
        runs=tables[NodeLabel.RUN],
        reward_models=tables[NodeLabel.REWARD_MODEL],
        edges=edges,
        query_x=query_x,
        thinking_x=thinking_x,
        query_has_x=query_has_x,
        thinking_has_x=thinking_has_x,
    )


def content_digest(tables: Mapping[NodeLabel, pa.Table], edges: Mapping[str, EdgeTable]) -> str:
    """Digest of a snapshot's node ids, rewards, edges and link scores.

    The ids cover texts and vectors, because they are hashes of them. Predictions are not part of the digest: scoring a
    memory does not change its identity.
    """
    digest = hashlib.blake2b(digest_size=12)
    for label in (NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER):
        for buffer in _buffers(tables[label]["id"]):
            digest.update(buffer)
    rewards = tables[NodeLabel.THINKING]["reward"].to_numpy(zero_copy_only=False)
    digest.update(np.nan_to_num(rewards.astype(np.float64), nan=-1.0).tobytes())
    for name in ("generates", "leads_to", "query_similar", "thinking_similar"):
        edge = edges[name]
        digest.update(edge.source.tobytes())
        digest.update(edge.target.tobytes())
        if "score" in edge.properties.column_names:
            digest.update(edge.properties["score"].to_numpy(zero_copy_only=False).tobytes())
    return "s-" + digest.hexdigest()


def _buffers(column: pa.ChunkedArray) -> list[bytes]:
    # Joined, so that the digest does not depend on how Arrow chunked the column.
    return [pc.binary_join(pa.array([column.to_pylist()]), "\n")[0].as_py().encode()] if len(column) else []


def _columns(label: NodeLabel, texts: bool) -> list[str]:
    skipped = BOOKKEEPING if texts or label is NodeLabel.ANSWER else BOOKKEEPING | TEXT_COLUMNS
    return [name for name in NODE_COLUMNS[label] if name not in skipped]


def _vectors(stores: Stores, kind: VectorKind, nodes: pa.Table) -> tuple[FloatMatrix, BoolVector]:
    """Vectors float32 [N, D] in the order of the nodes, zero where a node has none, and bool [N]."""
    has: BoolVector = pc.is_valid(nodes["vector_key"]).to_numpy(zero_copy_only=False).astype(bool)
    fingerprint = stores.fingerprint
    if fingerprint is None:
        return np.zeros((0, 0), dtype=np.float32), has
    if has.all():
        return stores.vectors_of(kind, nodes["id"].to_pylist(), nodes["vector_key"].to_pylist()), has
    chosen = nodes.filter(pa.array(has))
    x = np.zeros((len(has), fingerprint.dimension), dtype=np.float32)
    x[has] = stores.vectors_of(kind, chosen["id"].to_pylist(), chosen["vector_key"].to_pylist())
    return x, has
