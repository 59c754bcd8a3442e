"""A real HNSW index finds the neighbours that a comparison of everything finds, nearly all."""

from __future__ import annotations

import numpy as np

from memstore.testing.conformance.vectors import names
from memstore.types import FloatMatrix, IntVector
from memstore.vectors.knn import LinkSettings, Neighbours, link_all, link_new
from memstore.vectors.knn.store_search import measured_recall
from memstore.vectors.milvus import MilvusVectors

ROWS, DIMENSION = 3000, 32
HOW = LinkSettings(k=5)


def clustered(rng: np.random.Generator) -> FloatMatrix:
    """Unit vectors around fifty centres, as texts of a few tasks are."""
    centres = rng.standard_normal((50, DIMENSION))
    vectors = centres[rng.integers(0, 50, ROWS)] + 0.5 * rng.standard_normal((ROWS, DIMENSION))
    unit: FloatMatrix = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def test_links_by_the_index_hold_nearly_all_true_neighbours(milvus_uri: str) -> None:
    rng = np.random.default_rng(5)
    vectors, group = clustered(rng), rng.permutation(np.arange(ROWS) // 6)
    with MilvusVectors.open(
        milvus_uri, fingerprint="links_32_c0ffee00", dimension=DIMENSION, namespace="links"
    ) as store:
        store.upsert("thinking", names(ROWS), vectors)
        store.upsert("query", names(200, "q"), vectors[:200])  # of another kind, and so never found
        store.flush()
        place = {name: position for position, name in enumerate(names(ROWS))}

        def nearest(asked: FloatMatrix, hits: int, width: int) -> IntVector:
            found = store.search("thinking", asked, hits, width=width).ids
            return np.array([place[name] if name else -1 for name in found.ravel().tolist()]).reshape(found.shape)

        exact, whole = link_all(vectors, group, HOW), link_all(vectors, group, HOW, store=nearest)
        assert measured_recall(vectors, group, whole, HOW) >= 0.99
        same = whole.index == exact.index
        assert same.mean() > 0.99
        np.testing.assert_array_equal(whole.score[same], exact.score[same])

        is_new = np.zeros(ROWS, dtype=bool)
        is_new[rng.choice(ROWS, 150, replace=False)] = True
        old = np.flatnonzero(~is_new)
        among = link_all(vectors[old], group[old], HOW)
        before = Neighbours.none(ROWS, HOW.k)
        before.index[old] = np.where(among.index >= 0, old[among.index], -1)
        before.score[old] = among.score
        after, _ = link_new(vectors, group, is_new, before, HOW, store=nearest)
        node, rank = np.nonzero(is_new[exact.index] & ~is_new[:, None])
        gained = (after.index[node] == exact.index[node, rank][:, None]).any(axis=1)
        assert len(gained) > 300
        assert gained.mean() > 0.98
