"""Write vectors to the vector store, from the cache or by embedding the nodes' texts again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from memstore.locations.stores import Stores
from memstore.progress import Progress
from memstore.types import VECTOR_KINDS, VectorKind
from memstore.vectors.labels import LABEL_OF


def write_vectors(stores: Stores, kind: VectorKind, nodes: list[str], keys: list[str]) -> None:
    """Write the cached vectors of these keys to the vector store, under the nodes' ids."""
    rows = stores.cache.lookup(keys)
    assert (rows >= 0).all(), "vectors are cached before they are written"
    stores.vectors.upsert(kind, nodes, stores.cache.vectors(rows), keys=keys)


def fill_vectors(stores: Stores, *, batches: Sequence[str] | None = None, progress: Progress | None = None) -> int:
    """Write the vectors that the vector store lacks; return how many were written.

    Texts whose vectors are not in the cache are embedded again.

    Args:
        batches: consider only the nodes of these batches; None considers all nodes.
    """
    filled = 0
    for kind in VECTOR_KINDS:
        nodes = stores.graph.nodes(LABEL_OF[kind], ["id", "vector_key", "batch"])
        mask = np.array([key is not None for key in nodes["vector_key"].to_pylist()], dtype=bool)
        if batches is not None:
            chosen = set(batches)
            mask &= np.array([batch in chosen for batch in nodes["batch"].to_pylist()], dtype=bool)
        nodes = nodes.filter(pa.array(mask))
        missing = set(stores.vectors.missing(nodes["id"].to_pylist()))
        if not missing:
            continue
        pairs = zip(nodes["id"].to_pylist(), nodes["vector_key"].to_pylist(), strict=True)
        key_of = {node: key for node, key in pairs if node in missing}
        stores.fill_cache(kind, list(key_of), list(key_of.values()), progress)
        write_vectors(stores, kind, list(key_of), list(key_of.values()))
        filled += len(key_of)
    stores.vectors.flush()
    return filled
