"""Bootstrap over queries: how far a figure might have come out otherwise with other queries of the same kind.

Queries are drawn with replacement within each dataset, with all their samples; the interval is between the percentiles
of what the draws come to. A dataset's draws depend on the seed and its name alone, so its interval is the same
whatever else is graded beside it, and two policies on the same queries are drawn alike.

With fewer than two queries there is nothing to draw and no interval. Where every query came out the same, the interval
is that one value: a bootstrap cannot know of what it never saw.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore_rl.grade.figures import Stratum, Sums, ratios

CONFIDENCE = 0.95
DRAWS = 2_000
_AT_ONCE = 4_000_000
"""Drawn queries that are held at a time."""


class Spread(NamedTuple):
    """Bounds, float64 of one shape; NaN where there is no interval."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bootstrap(strata: Sequence[Stratum], *, draws: int = DRAWS, seed: int = 0) -> Spread:
    """The interval of every figure that `ratios` gives, float64 [D + 2, F]."""
    numerator, denominator = zip(*(drawn_sums(s, draws, seed) for s in strata), strict=True)
    return spread(ratios(np.stack(numerator, 1), np.stack(denominator, 1)), strata)


def drawn_sums(stratum: Stratum, draws: int, seed: int) -> tuple[Sums, Sums]:
    """Numerators and denominators of each draw, float64 [draws, F] each."""
    columns = np.concatenate([stratum.numerator, stratum.denominator], axis=1)
    sums = np.concatenate([weights @ columns for weights in _weights(stratum, draws, seed)])
    return sums[:, : stratum.numerator.shape[1]], sums[:, stratum.numerator.shape[1] :]


def _weights(stratum: Stratum, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each query is in a draw, a number of draws at a time."""
    queries = len(stratum.queries)
    if not queries:
        yield np.zeros((draws, 0))
        return
    random = np.random.default_rng([seed, zlib.crc32(stratum.dataset.encode())])
    step = max(1, _AT_ONCE // queries)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = random.integers(queries, size=(rows, queries)) + queries * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * queries).reshape(rows, queries).astype(np.float64)


def spread(drawn: Sums, strata: Sequence[Stratum]) -> Spread:
    """Percentiles over the draws, float64 [D + 2, F]; draws without a figure are left aside.

    Args:
        drawn: float64 [draws, D + 2, F].
    """
    bounds = np.full((2, *drawn.shape[1:]), np.nan)
    ends = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
    queries = np.stack([(s.denominator > 0).sum(0) for s in strata])
    enough = np.concatenate([queries, np.repeat(queries.max(0)[None], 2, axis=0)]) >= 2
    for row, column in zip(*np.nonzero(enough), strict=True):
        values = drawn[:, row, column]
        bounds[:, row, column] = np.percentile(values[np.isfinite(values)], ends)
    return Spread(bounds[0], bounds[1])
