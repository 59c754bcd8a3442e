"""The score of a pair: what "cosine" means here, to the last bit.

The products of two float32 are exact in float64. They are added in float64 along a fixed tree of halves and the sum
is rounded to float32 once. Only elementwise operations take part, so the score is symmetric and does not depend on
block shapes, threads or which of the two came first.
"""

from __future__ import annotations

import torch

from memstore.vectors.knn.threads import Threads

_SHARE = 1 << 15
_PAIRS_AT_ONCE = 512


def pair_scores(vectors: torch.Tensor, left: torch.Tensor, right: torch.Tensor, threads: Threads) -> torch.Tensor:
    """float32 [P]: the scores of the pairs (left[p], right[p]).

    Args:
        vectors: float32 [N, D].
        left, right: int64 [P] rows of `vectors`.
        threads: do the work.
    """
    out = torch.empty(len(left), dtype=torch.float32)
    shares = (torch.split(whole, _SHARE) for whole in (left, right, out))
    list(threads.pool.map(lambda *share: _fill(vectors, *share), *shares))
    return out


def _fill(vectors: torch.Tensor, left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    # Scratch is allocated once: the pages of fresh memory cost more than all the arithmetic.
    size = (min(_PAIRS_AT_ONCE, len(left)), vectors.shape[1])
    ours, theirs, terms = (torch.empty(size, dtype=dtype) for dtype in (torch.float32, torch.float32, torch.float64))
    for start in range(0, len(left), _PAIRS_AT_ONCE):
        part = slice(start, min(start + _PAIRS_AT_ONCE, len(left)))
        count = part.stop - part.start
        torch.index_select(vectors, 0, left[part], out=ours[:count])
        torch.index_select(vectors, 0, right[part], out=theirs[:count])
        terms[:count] = ours[:count]
        terms[:count] *= theirs[:count]
        out[part] = _sum_rows(terms[:count])


def _sum_rows(terms: torch.Tensor) -> torch.Tensor:
    """float64 [P] of [P, D], which it overwrites."""
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0]
