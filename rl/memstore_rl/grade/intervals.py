"""Bootstrap intervals over queries: the variation of a metric over other queries of the same kind.

Queries are drawn with replacement within each dataset, with all their samples; the interval lies between percentiles of
the drawn metrics. The draws of a dataset depend on the seed and its name only, so its interval does not depend on the
other datasets, and two policies on the same queries get the same draws.

With fewer than two queries there is no interval. If all queries have the same value, the interval is that value: a
bootstrap cannot see beyond its data.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore_rl.grade.metrics import Stratum, Sums, ratios

CONFIDENCE = 0.95
"""Probability that an interval covers the metric."""
DRAWS = 2_000
"""Bootstrap draws."""
_MAX_DRAWN = 4_000_000
"""Drawn queries held in memory at a time."""


class Intervals(NamedTuple):
    """Bounds, float64 of one shape; NaN where there is no interval."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def bootstrap(strata: Sequence[Stratum], *, draws: int = DRAWS, seed: int = 0) -> Intervals:
    """The interval of every metric that `ratios` returns, float64 [D + 2, F]."""
    return percentile_intervals(drawn_ratios(strata, draws, seed), strata)


def drawn_ratios(strata: Sequence[Stratum], draws: int, seed: int) -> Sums:
    """The metrics of each draw, float64 [draws, D + 2, F]."""
    numerator, denominator = zip(*(drawn_sums(s, draws, seed) for s in strata), strict=True)
    return ratios(np.stack(numerator, 1), np.stack(denominator, 1))


def drawn_sums(stratum: Stratum, draws: int, seed: int) -> tuple[Sums, Sums]:
    """Numerators and denominators of each draw, float64 [draws, F] each."""
    columns = np.concatenate([stratum.numerator, stratum.denominator], axis=1)
    sums = np.concatenate([weights @ columns for weights in _weights(stratum, draws, seed)])
    return sums[:, : stratum.numerator.shape[1]], sums[:, stratum.numerator.shape[1] :]


def _weights(stratum: Stratum, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each query is drawn, float64 [draws of a block, Q]."""
    queries = len(stratum.queries)
    if not queries:
        yield np.zeros((draws, 0))
        return
    random = np.random.default_rng([seed, zlib.crc32(stratum.dataset.encode())])
    step = max(1, _MAX_DRAWN // queries)
    for start in range(0, draws, step):
        rows = min(step, draws - start)
        drawn = random.integers(queries, size=(rows, queries)) + queries * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * queries).reshape(rows, queries).astype(np.float64)


def percentile_intervals(drawn: Sums, strata: Sequence[Stratum]) -> Intervals:
    """Percentiles over the draws, float64 [D + 2, F]; draws without the metric are ignored.

    Args:
        drawn: float64 [draws, D + 2, F].
    """
    bounds = np.full((2, *drawn.shape[1:]), np.nan)
    percentiles = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
    queries = np.stack([(s.denominator > 0).sum(0) for s in strata])
    enough = np.concatenate([queries, np.repeat(queries.max(0)[None], 2, axis=0)]) >= 2
    for row, column in zip(*np.nonzero(enough), strict=True):
        values = drawn[:, row, column]
        bounds[:, row, column] = np.percentile(values[np.isfinite(values)], percentiles)
    return Intervals(bounds[0], bounds[1])
