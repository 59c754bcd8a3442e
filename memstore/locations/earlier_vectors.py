"""Bring the embedded vectors of a memory that an earlier version made up to date, on first use.

Earlier versions stored each vector twice, in the cache and in the vector store, and before that in Milvus Lite. A copy
is replaced by the key under which the cache holds the same vector, one block in a transaction. A conversion that was
killed is repeated at the next use. Copies that differ from the cache stay, and `memstore verify` reports them.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.embedding.cache import VectorCache
from memstore.errors import StoreFullError
from memstore.graph.protocol import GraphStore
from memstore.locations.opening import raise_layout
from memstore.types import VECTOR_KINDS, VectorKind
from memstore.vectors.embedded import EmbeddedVectors
from memstore.vectors.labels import LABEL_OF

logger = logging.getLogger(__name__)
BLOCK = 5_000
"""Copies that are replaced in one transaction."""


def update_vectors(folder: Path, graph: GraphStore, vectors: EmbeddedVectors, cache: VectorCache) -> None:
    """Let the vector store refer to the cache, in a memory that can be written to.

    Args:
        folder: of the memory.
    """
    raise_layout(folder)
    if (folder / "vectors" / "collections").is_dir() and not vectors.count():
        _copy_keys(graph, vectors, cache)
    if not vectors.may_hold_copies():
        return
    _replace_copies(graph, vectors, cache)
    try:
        vectors.shrink()
    except StoreFullError:
        logger.warning("no space to make the vectors in %s smaller; it is tried again at the next use", folder)


def _copy_keys(graph: GraphStore, vectors: EmbeddedVectors, cache: VectorCache) -> None:
    """Fill the empty vectors of a memory that kept them in Milvus Lite; `memstore verify` reports those it lacks."""
    for kind in VECTOR_KINDS:
        nodes = _nodes_with_key(graph, kind)
        rows = cache.lookup(nodes["vector_key"].to_pylist())
        nodes = nodes.filter(pa.array(rows >= 0))
        vectors.upsert(
            kind, nodes["id"].to_pylist(), cache.vectors(rows[rows >= 0]), keys=nodes["vector_key"].to_pylist()
        )


def _replace_copies(graph: GraphStore, vectors: EmbeddedVectors, cache: VectorCache) -> None:
    for kind in VECTOR_KINDS:
        nodes = _nodes_with_key(graph, kind)
        for start in range(0, len(nodes), BLOCK):
            block = nodes.slice(start, BLOCK)
            rows, stored = cache.lookup(block["vector_key"].to_pylist()), vectors.fetch(block["id"].to_pylist())
            known = np.flatnonzero((rows >= 0) & stored.found)
            cached = cache.vectors(rows[known])
            same = (cached == stored.vectors[known]).all(axis=1)
            block = block.take(pa.array(known[same]))
            vectors.upsert(kind, block["id"].to_pylist(), cached[same], keys=block["vector_key"].to_pylist())


def _nodes_with_key(graph: GraphStore, kind: VectorKind) -> pa.Table:
    """Ids and vector keys of the nodes of a kind that have a vector."""
    nodes = graph.nodes(LABEL_OF[kind], ["id", "vector_key"])
    return nodes.filter(pc.is_valid(nodes["vector_key"]))
