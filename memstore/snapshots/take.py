"""Take a snapshot of an open memory, with bulk columnar reads. The memory is not changed.

A large memory need not be copied in full: `take_outline` reads what votes and labels are looked up in, and
`with_contents` adds texts and vectors to a part of it. Both free what reading them has cached.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import StoreError
from memstore.graph.protocol import EdgeTable
from memstore.locations.stores import Stores
from memstore.snapshots.digest import content_digest
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.types import BoolVector, FloatMatrix, VectorKind
from memstore_schema.columns import NODE_COLUMNS, SCHEMA_VERSION, EdgeType, NodeLabel, edge_schema

Contents: TypeAlias = Callable[[Snapshot], Snapshot]
"""Adds texts and vectors to some rollouts of an outline, see `with_contents`."""

TEXT_COLUMNS = frozenset({"text", "gold", "metadata"})
"""Columns that a snapshot without texts lacks."""
UNREAD_COLUMNS = frozenset({"query_key", "mean_logprob", "finish_reason"})
"""Columns of rollouts that an outline lacks besides: neither votes nor labels are looked up by them."""
BOOKKEEPING = frozenset({"linked", "batch"})
"""Columns that no snapshot has."""

EDGE_NAMES: dict[str, tuple[EdgeType, NodeLabel, NodeLabel]] = {
    "generates": (EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING),
    "in": (EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET),
    "leads_to": (EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER),
    "produced": (EdgeType.PRODUCED, NodeLabel.RUN, NodeLabel.THINKING),
    "wrote": (EdgeType.WROTE, NodeLabel.POLICY, NodeLabel.THINKING),
    "reliable_in": (EdgeType.RELIABLE_IN, NodeLabel.POLICY, NodeLabel.DATASET),
    "query_similar": (EdgeType.SIMILAR_TO, NodeLabel.QUERY, NodeLabel.QUERY),
    "thinking_similar": (EdgeType.SIMILAR_TO, NodeLabel.THINKING, NodeLabel.THINKING),
    "scored_by": (EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL),
    "query_influence": (EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.QUERY),
    "thinking_influence": (EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.THINKING),
    "answer_influence": (EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.ANSWER),
    "policy_influence": (EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.POLICY),
    "model_influence": (EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL),
}
"""Edge type, source label and target label of each edge table of a snapshot."""

OUTLINE_EDGES: dict[str, list[str] | None] = {
    "generates": None,
    "in": None,
    "leads_to": [],
    "produced": None,
    "wrote": None,
}
"""Edge tables of an outline and the columns that it has; None: all of them."""

TABLES: dict[NodeLabel, str] = {
    NodeLabel.QUERY: "queries",
    NodeLabel.THINKING: "thinkings",
    NodeLabel.ANSWER: "answers",
    NodeLabel.RUN: "runs",
    NodeLabel.REWARD_MODEL: "reward_models",
    NodeLabel.DATASET: "datasets",
    NodeLabel.POLICY: "policies",
}
"""Label and name of each node table of a snapshot."""


def complete_edges(edges: Mapping[str, EdgeTable]) -> dict[str, EdgeTable]:
    """All edge tables of a snapshot, in the order of `EDGE_NAMES`; those that are not given are empty."""
    none = np.empty(0, dtype=np.int64)
    return {
        name: edges[name] if name in edges else EdgeTable(none, none, edge_schema(edge).empty_table())
        for name, (edge, _, _) in EDGE_NAMES.items()
    }


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
    tables = {label: stores.graph.nodes(label, columns_of(label, texts)) for label in TABLES}
    edges = {name: read_edges(stores, name, texts=texts) for name in EDGE_NAMES}
    query_x, query_has_x = vectors_of(stores, "query", tables[NodeLabel.QUERY])
    thinking_x, thinking_has_x = vectors_of(stores, "thinking", tables[NodeLabel.THINKING])
    features, has_features = _features(stores, tables[NodeLabel.THINKING])
    return Snapshot(
        manifest=manifest_of(stores, content_digest(tables, edges, features)),
        **{name: tables[label] for label, name in TABLES.items()},
        edges=edges,
        query_x=query_x,
        thinking_x=thinking_x,
        query_has_x=query_has_x,
        thinking_has_x=thinking_has_x,
        features=features,
        has_features=has_features,
    )


def read_edges(stores: Stores, name: str, *, texts: bool) -> EdgeTable:
    """An edge table of a snapshot; without texts, the answers as written are left out."""
    found = stores.graph.edges(*EDGE_NAMES[name])
    if name == "leads_to" and not texts:
        return EdgeTable(found.source, found.target, found.properties.drop_columns(["text"]))
    return found


def take_outline(stores: Stores) -> Snapshot:
    """Copy nodes and edges without vectors, links, predictions, and the texts of rollouts and answers.

    Queries keep their texts and reference answers; rollouts lack `UNREAD_COLUMNS`, too. Vectors have the dimension 0,
    and the manifest has no id.
    """
    columns = {label: columns_of(label, label is NodeLabel.QUERY) for label in TABLES}
    columns[NodeLabel.THINKING] = [name for name in columns[NodeLabel.THINKING] if name not in UNREAD_COLUMNS]
    tables = {label: stores.graph.nodes(label, names) for label, names in columns.items()}
    edges = {name: stores.graph.edges(*EDGE_NAMES[name], columns) for name, columns in OUTLINE_EDGES.items()}
    stores.graph.drop_cache()
    has_x = {
        name: has_vector(tables[label])
        for name, label in (("query", NodeLabel.QUERY), ("thinking", NodeLabel.THINKING))
    }
    return Snapshot(
        manifest=manifest_of(stores, ""),
        **{name: tables[label] for label, name in TABLES.items()},
        edges=complete_edges(edges),
        query_x=np.zeros((len(has_x["query"]), 0), np.float32),
        thinking_x=np.zeros((len(has_x["thinking"]), 0), np.float32),
        query_has_x=has_x["query"],
        thinking_has_x=has_x["thinking"],
    )


def with_digest(stores: Stores, outline: Snapshot) -> Snapshot:
    """Give an outline the id that a snapshot of the memory has; its links and features are read for it and not kept."""
    similar = {name: stores.graph.edges(*EDGE_NAMES[name], ["score"]) for name in ("query_similar", "thinking_similar")}
    tables = {
        label: getattr(outline, TABLES[label]) for label in (NodeLabel.QUERY, NodeLabel.THINKING, NodeLabel.ANSWER)
    }
    features, _ = _features(stores, outline.thinkings)
    digest = content_digest(tables, {**outline.edges, **similar}, features)
    stores.graph.drop_cache()
    return replace(outline, manifest=replace(outline.manifest, id=digest))


def with_query_vectors(stores: Stores, outline: Snapshot) -> Snapshot:
    """Add the vectors of queries to an outline."""
    x, has_x = vectors_of(stores, "query", outline.queries)
    return replace(outline, query_x=x, query_has_x=has_x)


def with_contents(stores: Stores, part: Snapshot) -> Snapshot:
    """Add texts and vectors to a part of a memory's outline.

    Args:
        part: some rollouts of `take_outline`, as `memstore_gnn.data.hetero` cuts them.

    Raises:
        StoreError: nodes of the part are no longer in the memory.
    """
    thinkings, answers = (
        stores.graph.nodes(label, columns_of(label, True), ids=table["id"].to_pylist())
        for label, table in ((NodeLabel.THINKING, part.thinkings), (NodeLabel.ANSWER, part.answers))
    )
    leads_to = _with_answer_texts(stores, part)
    stores.graph.drop_cache()
    query_x, query_has_x = vectors_of(stores, "query", part.queries)
    thinking_x, thinking_has_x = vectors_of(stores, "thinking", thinkings)
    read = replace(
        part,
        thinkings=thinkings,
        answers=answers,
        edges={**part.edges, "leads_to": leads_to},
        query_x=query_x,
        thinking_x=thinking_x,
        query_has_x=query_has_x,
        thinking_has_x=thinking_has_x,
    )
    if (len(thinkings), len(answers)) != (len(part.thinkings), len(part.answers)):
        raise StoreError("rollouts were deleted while the memory was read; read it again")
    return read


def _with_answer_texts(stores: Stores, part: Snapshot) -> EdgeTable:
    """The part's edges from rollouts to answers, with the answers as written."""
    own = part.edges["leads_to"]
    ids = part.thinkings["id"].take(pa.array(own.source))
    found = stores.graph.answer_texts(ids.to_pylist())
    row = pc.index_in(ids, value_set=found["id"].combine_chunks())
    if row.null_count:
        raise StoreError("rollouts were deleted while the memory was read; read it again")
    return EdgeTable(own.source, own.target, found.select(["text"]).take(row))


def columns_of(label: NodeLabel, texts: bool) -> list[str]:
    """Columns of a label that a snapshot has."""
    skipped = BOOKKEEPING if texts or label is NodeLabel.ANSWER else BOOKKEEPING | TEXT_COLUMNS
    return [name for name in NODE_COLUMNS[label] if name not in skipped]


def vectors_of(stores: Stores, kind: VectorKind, nodes: pa.Table) -> tuple[FloatMatrix, BoolVector]:
    """Vectors float32 [N, D] in the order of the nodes, zero where a node has none, and bool [N]."""
    has = has_vector(nodes)
    fingerprint = stores.fingerprint
    if fingerprint is None:
        return np.zeros((0, 0), dtype=np.float32), has
    if has.all():
        return stores.vectors_of(kind, nodes["id"].to_pylist(), nodes["vector_key"].to_pylist()), has
    chosen = nodes.filter(pa.array(has))
    x = np.zeros((len(has), fingerprint.dimension), dtype=np.float32)
    x[has] = stores.vectors_of(kind, chosen["id"].to_pylist(), chosen["vector_key"].to_pylist())
    return x, has


def _features(stores: Stores, thinkings: pa.Table) -> tuple[FloatMatrix | None, BoolVector | None]:
    """Features float32 [T, F] of the rollouts, zero where one has none, and bool [T]; None if no rollout has any."""
    if stores.features_dimension is None:
        return None, None
    found = stores.features.fetch(thinkings["id"].to_pylist())
    return (found.vectors, found.found) if found.found.any() else (None, None)


def has_vector(nodes: pa.Table) -> BoolVector:
    """Which nodes have a vector, bool [N]."""
    has: BoolVector = pc.is_valid(nodes["vector_key"]).to_numpy(zero_copy_only=False).astype(bool)
    return has
