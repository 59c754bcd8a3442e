"""Link: bring the SIMILAR_TO edges of a memory up to date with its nodes.

Reads the stored neighbour lists, lets `memstore.vectors.knn` update them, and writes back the lists that changed.

A node is new if its `linked` column differs from the memory's link mark. The same call therefore links the nodes of an
interrupted ingest, and relinks the whole memory after its link settings or its embedder changed. One process links a
memory at a time.

For a memory on servers, the Milvus index searches for the neighbours, and the recall is measured on a sample. For an
embedded memory, all vectors are compared, which is exact.
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
from memstore.vectors.knn import LinkSettings, Neighbours, link_new
from memstore.vectors.labels import LABEL_OF
from memstore_schema.columns import EdgeType, NodeLabel

if TYPE_CHECKING:
    from memstore.vectors.knn.store_search import StoreSearch


_ROUNDING = 1e-5
"""Cosine by which a float32 product may differ from the exact score of a link, rounding included."""


@dataclass
class LinkSummary:
    """Counts of a `link_memory` call."""

    edges: dict[str, int] = field(default_factory=dict)
    """Similarity edges in the memory after the call, by kind of node."""
    nodes: dict[str, int] = field(default_factory=dict)
    """Nodes that this call linked, by kind."""
    recall: dict[str, float] = field(default_factory=dict)
    """Share of the true neighbours of a sample that the lists contain, by kind; only for a server's search."""


def link_memory(
    stores: Stores, settings: LinkSettings | None = None, *, progress: Progress | None = None
) -> LinkSummary:
    """Link the nodes that are not linked yet, and add them to the lists of older nodes whose top k they enter.

    Args:
        settings: None keeps the memory's own. Settings that differ are recorded, and all nodes are linked again.
    """
    stores.check_writable()
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
    group = _query_of_thinking(stores)[position] if kind == "thinking" else None
    compact = np.full(len(nodes), -1, dtype=np.int64)
    compact[position] = np.arange(len(position))
    scores = before.properties["score"].to_numpy(zero_copy_only=False)
    old = _neighbour_lists(compact[before.source], compact[before.target], scores, linked[position], settings.k)
    progress.stage(f"link {label}", int((~linked[position]).sum()))
    keys = nodes["vector_key"].take(pa.array(position))
    found, changed = _search(stores, kind, ids, keys, group, ~linked[position], old, summary, progress)
    update = LinkUpdate(
        label=label,
        sources=ids.filter(pa.array(changed)).to_pylist(),
        edges=_edge_table(ids, found, changed),
        linked=nodes["id"].filter(pa.array(~linked)).to_pylist(),
        fingerprint=stores.link_mark,
    )
    summary.edges[kind] = int((found.index >= 0).sum())
    graph.replace_links(update)


def _search(
    stores: Stores,
    kind: VectorKind,
    ids: pa.ChunkedArray,
    keys: pa.ChunkedArray,
    group: IntVector | None,
    is_new: BoolVector,
    old: Neighbours,
    summary: LinkSummary,
    progress: Progress,
) -> tuple[Neighbours, BoolVector]:
    """The new neighbour lists, and bool [N]: which of them are to be written. The vectors are freed before they are."""
    settings = stores.link_settings
    vectors = stores.vectors_of(kind, ids.to_pylist(), keys.to_pylist())
    search = _store_search(stores, kind, ids) if stores.vectors.searches_fast else None
    device = "cpu" if search is not None else _device(stores)
    found, changed = link_new(
        vectors, group, is_new, old, settings, store=search, progress=progress.advance, device=device
    )
    if search is not None:
        from memstore.vectors.knn.store_search import measured_recall

        summary.recall[kind] = measured_recall(vectors, group, found, settings)
    return found, changed | is_new


def _device(stores: Stores) -> str:
    """The device of the settings, or a GPU if there is one; a command that links nothing does not import torch."""
    from memstore.embedding.precision import choose_device

    return choose_device(stores.settings.device)


def _store_search(stores: Stores, kind: VectorKind, ids: pa.ChunkedArray) -> StoreSearch:
    """A search of the vector store that returns positions in `ids`, -1 for a vector whose node is not in the graph."""
    position_of = {node: position for position, node in enumerate(ids.to_pylist())}

    def search(vectors: FloatMatrix, hits: int, width: int) -> IntVector:
        found = stores.vectors.search(kind, vectors, hits, width=width).ids
        return np.array([position_of.get(node, -1) for node in found.ravel().tolist()], np.int64).reshape(found.shape)

    return search


def nodes_short_of_links(stores: Stores, kind: VectorKind) -> list[str]:
    """Ids of linked nodes that have fewer than k links although more neighbours lie above the floor."""
    label, settings = LABEL_OF[kind], stores.link_settings
    nodes = stores.graph.nodes(label, ["id", "vector_key", "linked"])
    edges = stores.graph.edges(EdgeType.SIMILAR_TO, label, label)
    degree = np.bincount(edges.source, minlength=len(nodes))
    linked = _mask(pc.fill_null(pc.equal(nodes["linked"], stores.link_mark), False))
    has_vector = _mask(pc.is_valid(nodes["vector_key"]))
    short = np.flatnonzero(has_vector & linked & (degree < settings.k))
    if not len(short):
        return []
    position = np.flatnonzero(has_vector)
    ids = nodes["id"].to_pylist()
    keys = nodes["vector_key"].take(pa.array(position)).to_pylist()
    vectors = stores.vectors_of(kind, [ids[row] for row in position], keys)
    group = _query_of_thinking(stores) if kind == "thinking" else np.arange(len(nodes))
    lacking: list[str] = []
    for node in short:
        score = vectors[np.searchsorted(position, node)] @ vectors.T
        near = (score >= settings.floor + _ROUNDING) & (group[position] != group[node])
        if degree[node] < min(settings.k, int(near.sum())):
            lacking.append(ids[node])
    return lacking


def _query_of_thinking(stores: Stores) -> IntVector:
    """Position of each thinking's query, int64 [T]."""
    edges = stores.graph.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    query = np.empty(len(edges), dtype=np.int64)
    query[edges.target] = edges.source
    return query


def _neighbour_lists(source: IntVector, target: IntVector, score: np.ndarray, keep: BoolVector, k: int) -> Neighbours:
    """Convert stored edges to neighbour lists, for the nodes in `keep`."""
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
    """The neighbour lists of the changed nodes as rows of source, target and score."""
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
