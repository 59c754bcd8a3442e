"""Exact score of a pair of vectors: the value that a similarity edge stores.

The float32 products are exact in float64. They are added in float64 in a fixed tree of halves and rounded to float32
once. The score is therefore symmetric and independent of block shapes and threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatMatrix, IntVector

_PAIRS_AT_ONCE = 512
"""Their products fit into the second-level cache of a core."""


def pair_scores(vectors: FloatMatrix, left: IntVector, right: IntVector) -> NDArray[np.float32]:
    """Scores float32 [P] of the pairs (left[p], right[p]).

    Args:
        vectors: float32 [N, D].
        left: int64 [P], rows of `vectors`.
        right: int64 [P], rows of `vectors`.
    """
    out = np.empty(len(left), np.float32)
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        terms = np.multiply(vectors[left[part]], vectors[right[part]], dtype=np.float64)
        width = terms.shape[1]
        while width > 1:
            half = (width + 1) // 2
            terms[:, : width - half] += terms[:, half:width]
            width = half
        out[part] = terms[:, 0]
    return out
