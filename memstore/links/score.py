"""The score of a pair: what "cosine" means here, to the last bit.

The products of two float32 are exact in float64. They are added in float64 along a fixed tree of halves and the sum
is rounded to float32 once. Only elementwise operations take part, so the score is symmetric and does not depend on
block shapes, threads or which of the two came first.
"""

from __future__ import annotations

import torch

from memstore.links.threads import Threads

_PAIRS_AT_ONCE = 1024


def pair_scores(vectors: torch.Tensor, left: torch.Tensor, right: torch.Tensor, threads: Threads) -> torch.Tensor:
    """float32 [P]: the scores of the pairs (left[p], right[p]).

    Args:
        vectors: float32 [N, D].
        left, right: int64 [P] rows of `vectors`.
        threads: do the work.
    """
    parts = zip(torch.split(left, _PAIRS_AT_ONCE), torch.split(right, _PAIRS_AT_ONCE), strict=True)
    return torch.cat(list(threads.pool.map(lambda part: _score(vectors, *part), parts)))


def _score(vectors: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    terms = vectors.index_select(0, left).double()
    terms *= vectors.index_select(0, right)
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0].float()
