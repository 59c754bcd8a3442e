"""Compare two policies on the same queries.

A query counts if both policies have a judged sample of it, and for a metric at k if both have k; queries that only one
policy has are counted and left out. The difference is the first policy's metric minus the second's. Its bootstrap
interval draws queries with the samples of both policies, so that the difficulty of a query cancels.

The p-value comes from a permutation test: under the null hypothesis either policy could have produced either set of
samples of a query, so each query's samples are swapped between the policies with probability 1/2. p is the share of
permutations whose difference is at least as far from zero as the observed one: over all permutations if few queries
differ, else over `PERMUTATIONS` random ones with the observed one counted in. With one sample per query this is
McNemar's test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore_rl.grade.intervals import DRAWS, Intervals, drawn_ratios, percentile_intervals
from memstore_rl.grade.metrics import Stratum, Sums, ratios, totals

PERMUTATIONS = 9_999
"""Random permutations of the test if not all are enumerated."""
MAX_EXACT_QUERIES = 13
"""Number of differing queries up to which all permutations are enumerated."""
_ROUNDING = 1e-12
_MAX_SWAPS = 16_000_000
"""Random swaps held in memory at a time."""


class PairedDataset(NamedTuple):
    """The queries of one dataset that both policies have, in the same order."""

    first: Stratum
    second: Stratum
    only_first: int
    """Queries that only the first policy has."""
    only_second: int


class Difference(NamedTuple):
    """Metrics of both policies, float64 [D + 2, F] each: datasets, weighted, macro."""

    first: Sums
    second: Sums
    intervals: Intervals
    p: Sums

    @property
    def value(self) -> Sums:
        """The first minus the second."""
        return self.first - self.second


def paired(first: Stratum, second: Stratum) -> PairedDataset:
    """The queries of a dataset that both policies have."""
    common = sorted(set(first.queries) & set(second.queries))
    own, other = _rows(first, common), _rows(second, common)
    both = (own.denominator > 0) & (other.denominator > 0)
    return PairedDataset(
        own._replace(numerator=own.numerator * both, denominator=own.denominator * both),
        other._replace(numerator=other.numerator * both, denominator=other.denominator * both),
        len(first.queries) - len(common),
        len(second.queries) - len(common),
    )


def _rows(stratum: Stratum, queries: list[str]) -> Stratum:
    row_of = {query: row for row, query in enumerate(stratum.queries)}
    rows = np.array([row_of[query] for query in queries], dtype=np.int64)
    return Stratum(stratum.dataset, tuple(queries), stratum.numerator[rows], stratum.denominator[rows])


def difference(pairs: Sequence[PairedDataset], *, draws: int = DRAWS, seed: int = 0) -> Difference:
    """The difference of two policies over datasets with at least one query in common."""
    firsts, seconds = [pair.first for pair in pairs], [pair.second for pair in pairs]
    first, second = ratios(*totals(firsts)), ratios(*totals(seconds))
    # A draw depends on the seed, the dataset and the number of queries, so both policies get the same queries.
    drawn = drawn_ratios(firsts, draws, seed) - drawn_ratios(seconds, draws, seed)
    return Difference(first, second, percentile_intervals(drawn, firsts), p_values(firsts, seconds, seed=seed))


def p_values(firsts: Sequence[Stratum], seconds: Sequence[Stratum], *, seed: int = 0) -> Sums:
    """float64 [D + 2, F]; NaN where a policy lacks the metric."""
    pairs = list(zip(firsts, seconds, strict=True))
    observed = ratios(*totals(firsts)) - ratios(*totals(seconds))
    changes = [_changes(first, second) for first, second in pairs]
    differing = sum(len(change) for change in changes)
    exact = differing <= MAX_EXACT_QUERIES
    count, permutations = np.zeros(observed.shape), 0
    for swaps in _all_swaps(differing) if exact else _random_swaps(differing, seed):
        by_dataset = np.split(swaps, np.cumsum([len(change) for change in changes])[:-1], axis=1)
        change = np.stack([own @ change for own, change in zip(by_dataset, changes, strict=True)], axis=1)
        permuted = np.abs(_permuted_metrics(firsts, change) - _permuted_metrics(seconds, -change))
        count += (permuted >= np.abs(observed) - _ROUNDING).sum(0)
        permutations += len(swaps)
    p = count / permutations if exact else (count + 1) / (permutations + 1)
    return np.where(np.isfinite(observed), p, np.nan)


def _changes(first: Stratum, second: Stratum) -> NDArray[np.float64]:
    """float64 [differing queries, 2 F]: the change of the first policy's sums when a query's samples are swapped."""
    changes = np.concatenate(
        [second.numerator - first.numerator, second.denominator - first.denominator], axis=1, dtype=np.float64
    )
    differing: NDArray[np.float64] = changes[(changes != 0).any(1)]
    return differing


def _permuted_metrics(strata: Sequence[Stratum], change: Sums) -> Sums:
    """The metrics after each permutation, float64 [permutations, D + 2, F]; `change` is [permutations, D, 2 F]."""
    numerator, denominator = totals(strata)
    metrics = numerator.shape[1]
    return ratios(numerator + change[..., :metrics], denominator + change[..., metrics:])


def _all_swaps(queries: int) -> Iterator[NDArray[np.float64]]:
    permutations = np.arange(1 << queries)[:, None] >> np.arange(queries)
    yield (permutations & 1).astype(np.float64)


def _random_swaps(queries: int, seed: int) -> Iterator[NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    step = max(1, _MAX_SWAPS // queries)
    for start in range(0, PERMUTATIONS, step):
        yield random.integers(2, size=(min(step, PERMUTATIONS - start), queries)).astype(np.float64)
