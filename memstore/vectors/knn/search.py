"""Exact nearest neighbours of some queries among candidates: a blocked matrix product and a partial sort.

Embedded vector stores, features and baselines use it. Linking compares all nodes with each other and has a faster
search of its own, `blocked`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatMatrix, IntVector

BLOCK_ROWS = 64
"""Queries in one matrix product. The block is padded to this size, because BLAS rounds differently under another
shape: a query's scores then do not depend on how many queries come with it."""


class Found(NamedTuple):
    """Neighbours of N queries, in no particular order."""

    position: NDArray[np.int64]
    """int64 [N, k]: row of the candidate; 0 where fewer than k exist."""
    score: NDArray[np.float32]
    """float32 [N, k]: inner product; 0 where fewer than k exist."""
    present: NDArray[np.bool_]
    """bool [N, k]: False where fewer than k exist."""


def nearest(
    queries: FloatMatrix,
    candidates: FloatMatrix,
    k: int,
    *,
    query_group: IntVector | None = None,
    candidate_group: IntVector | None = None,
) -> Found:
    """The k candidates with the highest inner product for each query.

    Args:
        queries: float32 [N, D].
        candidates: float32 [C, D].
        query_group: int64 [N]; a query has no neighbours of its own group. Negative: no group.
        candidate_group: int64 [C], not negative; required with `query_group`.

    Example:
        >>> nearest(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), 1).position.tolist()
        [[0], [1]]
    """
    shape, kept = (len(queries), k), min(k, len(candidates))
    found = Found(np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape, np.bool_))
    if not kept:
        return found
    block = np.zeros((BLOCK_ROWS, queries.shape[1]), np.float32)
    for start in range(0, len(queries), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(queries)))
        block[: rows.stop - start] = queries[rows]
        score = (block @ candidates.T)[: rows.stop - start]
        if query_group is not None and candidate_group is not None and (query_group[rows] >= 0).any():
            score[query_group[rows, None] == candidate_group[None, :]] = -np.inf
        best = np.argpartition(score, score.shape[1] - kept, axis=1)[:, -kept:]
        near = np.take_along_axis(score, best, axis=1)
        present = np.isfinite(near)
        found.position[rows, :kept] = np.where(present, best, 0)
        found.score[rows, :kept] = np.where(present, near, 0.0)
        found.present[rows, :kept] = present
    return found
