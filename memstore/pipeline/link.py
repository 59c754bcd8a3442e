"""Links in the store: read the neighbour lists that are there, let `memstore.vectors.knn` bring them up to date, write
back what changed.

A node whose `linked` is not the memory's link mark is new here; so nodes of a killed ingest, and a whole memory whose
settings or embedder were changed, are linked by the same call. One process links a memory at a time.

Where the vectors lie decides who searches: a Milvus server by its index, with the recall measured on a sample; for an
embedded memory the arrays are compared, which is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import LinkUpdate
from memstore.locations.stores import Stores
from memstore.progress import Progress, Silent
from memstore.types import VECTOR_KINDS, BoolVector, FloatMatrix, IntVector, VectorKind
from memstore.vectors.knn import LinkSettings, Neighbours, link_all, link_new
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import EdgeType, NodeLabel

if TYPE_CHECKING:
    from memstore.vectors.knn.served import Nearest


_ROUNDING = 1e-5
"""How much a quick float32 product may differ from the exact score of a link."""


@dataclass
class LinkSummary:
    """What `link_memory` did."""

    edges: dict[str, int] = field(default_factory=dict)
    """Similarity edges now in the memory, by kind."""
    nodes: dict[str, int] = field(default_factory=dict)
    """Nodes that were linked by this call, by kind."""
    recall: dict[str, float] = field(default_factory=dict)
    """Share of a sample's true neighbours that the lists hold, by kind; only where a server did the searching."""


def link_memory(
    stores: Stores, settings: LinkSettings | None = None, *, progress: Progress | None = None
) -> LinkSummary:
    """Link every node that is not linked yet; old nodes gain new neighbours that belong in their top k.

    Args:
        settings: None keeps the memory's own. Others relink all of it and are recorded.
    """
    progress = progress or Silent()
    if settings is not None and settings != stores.link_settings:
        stores.record_link_settings(settings)
    summary = LinkSummary()
    with stores.graph.linking():
        for kind in VECTOR_KINDS:
            _link_label(stores, kind, LABEL_OF[kind], summary, progress)
    return summary


def _link_label(stores: Stores, kind: VectorKind, label: NodeLabel, summary: LinkSummary, progress: Progress) -> None:
    graph, settings = stores.graph, stores.link_settings
    nodes = graph.nodes(label, ["id", "vector_key", "linked"])
    before = graph.edges(EdgeType.SIMILAR_TO, label, label)
    linked = _mask(pc.fill_null(pc.equal(nodes["linked"], stores.link_mark), False))
    summary.nodes[kind], summary.edges[kind] = int((~linked).sum()), len(before)
    if linked.all():
        return
    has_vector = _mask(pc.is_valid(nodes["vector_key"]))
    position = np.flatnonzero(has_vector)
    ids = nodes["id"].take(pa.array(position))
    vectors = stores.vectors_of(kind, ids.to_pylist(), nodes["vector_key"].take(pa.array(position)).to_pylist())
    group = _query_of_thinking(stores)[position] if kind == "thinking" else None
    is_new = ~linked[position]
    nearest = _nearest(stores, kind, ids) if stores.vectors.searches_fast else None
    progress.stage(f"link {label}", int(is_new.sum()))
    if is_new.all():
        found = link_all(vectors, group, settings, nearest=nearest, progress=progress.advance)
        changed = np.ones(len(position), dtype=bool)
    else:
        compact = np.full(len(nodes), -1, dtype=np.int64)
        compact[position] = np.arange(len(position))
        scores = before.properties["score"].to_numpy(zero_copy_only=False)
        old = _neighbour_lists(compact[before.source], compact[before.target], scores, ~is_new, settings.k)
        found, changed = link_new(vectors, group, is_new, old, settings, nearest=nearest, progress=progress.advance)
        changed |= is_new
    update = LinkUpdate(
        label=label,
        sources=ids.filter(pa.array(changed)).to_pylist(),
        edges=_edge_table(ids, found, changed),
        linked=nodes["id"].filter(pa.array(~linked)).to_pylist(),
        fingerprint=stores.link_mark,
    )
    graph.replace_links(update)
    summary.edges[kind] = int((found.index >= 0).sum())
    if nearest is not None:
        from memstore.vectors.knn.served import measured_recall

        summary.recall[kind] = measured_recall(vectors, group, found, settings)


def _nearest(stores: Stores, kind: VectorKind, ids: pa.ChunkedArray) -> Nearest:
    """Searches the vector store; what it holds and the graph does not is left out."""
    place = {node: position for position, node in enumerate(ids.to_pylist())}

    def nearest(vectors: FloatMatrix, hits: int, width: int) -> IntVector:
        found = stores.vectors.search(kind, vectors, hits, width=width).ids
        return np.array([place.get(node, -1) for node in found.ravel().tolist()], np.int64).reshape(found.shape)

    return nearest


def nodes_short_of_links(stores: Stores, kind: VectorKind) -> list[str]:
    """Nodes that were linked and have fewer links than there are neighbours above the floor, up to k."""
    label, settings = LABEL_OF[kind], stores.link_settings
    nodes = stores.graph.nodes(label, ["id", "vector_key", "linked"])
    edges = stores.graph.edges(EdgeType.SIMILAR_TO, label, label)
    held = np.bincount(edges.source, minlength=len(nodes))
    linked = _mask(pc.fill_null(pc.equal(nodes["linked"], stores.link_mark), False))
    has_vector = _mask(pc.is_valid(nodes["vector_key"]))
    short = np.flatnonzero(has_vector & linked & (held < settings.k))
    if not len(short):
        return []
    position = np.flatnonzero(has_vector)
    ids = nodes["id"].to_pylist()
    keys = nodes["vector_key"].take(pa.array(position)).to_pylist()
    vectors = stores.vectors_of(kind, [ids[place] for place in position], keys)
    group = _query_of_thinking(stores) if kind == "thinking" else np.arange(len(nodes))
    lacking: list[str] = []
    for node in short:
        score = vectors[np.searchsorted(position, node)] @ vectors.T
        near = (score >= settings.floor + _ROUNDING) & (group[position] != group[node])
        if held[node] < min(settings.k, int(near.sum())):
            lacking.append(ids[node])
    return lacking


def _query_of_thinking(stores: Stores) -> IntVector:
    edges = stores.graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    query = np.empty(len(edges), dtype=np.int64)
    query[edges.target] = edges.source
    return query


def _neighbour_lists(source: IntVector, target: IntVector, score: np.ndarray, keep: BoolVector, k: int) -> Neighbours:
    """Stored edges as neighbour lists, for the nodes in `keep`."""
    chosen = keep[source]
    source, target, score = source[chosen], target[chosen], score[chosen]
    order = np.lexsort((target, -score, source))
    source, target, score = source[order], target[order], score[order]
    starts = np.searchsorted(source, np.arange(len(keep)))
    rank = np.arange(len(source)) - starts[source]
    index = np.full((len(keep), k), -1, dtype=np.int64)
    scores = np.full((len(keep), k), -np.inf, dtype=np.float32)
    index[source, rank] = target
    scores[source, rank] = score
    return Neighbours(index=index, score=scores)


def _edge_table(ids: pa.ChunkedArray, found: Neighbours, changed: BoolVector) -> pa.Table:
    row, column = np.nonzero((found.index >= 0) & changed[:, None])
    return pa.table(
        {
            "source": ids.take(pa.array(row)),
            "target": ids.take(pa.array(found.index[row, column])),
            "score": pa.array(found.score[row, column], type=pa.float32()),
        }
    )


def _mask(values: pa.ChunkedArray) -> BoolVector:
    mask: BoolVector = values.to_numpy(zero_copy_only=False).astype(bool)
    return mask
