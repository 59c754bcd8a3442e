"""Two policies on the same queries.

A query counts where both policies have a judged sample of it, and for a figure at k where both have k; what only one
of them has is counted and left out. The difference is the first policy's figure less the second's, and its interval
draws queries with both policies' samples (`intervals`), so that what makes a query hard is in both and cancels.

The p-value is that of a permutation test: were the two policies alike, either might have given either's samples of a
query, so each query's samples change sides by the toss of a coin. It is the share of tosses with a difference at
least as far from zero as the one seen: of all tosses where few queries differ, else of `TOSSES` drawn ones, the one
seen counted in. With one sample a query it is McNemar's test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore_rl.grade.figures import Stratum, Sums, ratios, totals
from memstore_rl.grade.intervals import DRAWS, Spread, drawn_sums, spread

TOSSES = 9_999
EXACT = 13
"""Queries that differ, up to which every toss is looked at."""
_ROUNDING = 1e-12
_AT_ONCE = 16_000_000
"""Tossed coins that are held at a time."""


class Pair(NamedTuple):
    """The queries of one dataset that both policies have, in one order."""

    first: Stratum
    second: Stratum
    only_first: int
    only_second: int


class Difference(NamedTuple):
    """Figures of the pairs, float64 [D + 2, F] each: datasets, weighted, macro."""

    first: Sums
    second: Sums
    spread: Spread
    p: Sums

    @property
    def value(self) -> Sums:
        """The first less the second."""
        return self.first - self.second


def paired(first: Stratum, second: Stratum) -> Pair:
    """What both have of a dataset."""
    common = sorted(set(first.queries) & set(second.queries))
    own, other = _rows(first, common), _rows(second, common)
    both = (own.denominator > 0) & (other.denominator > 0)
    return Pair(
        own._replace(numerator=own.numerator * both, denominator=own.denominator * both),
        other._replace(numerator=other.numerator * both, denominator=other.denominator * both),
        len(first.queries) - len(common),
        len(second.queries) - len(common),
    )


def _rows(stratum: Stratum, queries: list[str]) -> Stratum:
    place = {query: row for row, query in enumerate(stratum.queries)}
    rows = np.array([place[query] for query in queries], dtype=np.int64)
    return Stratum(stratum.dataset, tuple(queries), stratum.numerator[rows], stratum.denominator[rows])


def difference(pairs: Sequence[Pair], *, draws: int = DRAWS, seed: int = 0) -> Difference:
    """How far apart the two are, for datasets with at least one query in common."""
    firsts, seconds = [pair.first for pair in pairs], [pair.second for pair in pairs]
    first, second = ratios(*totals(firsts)), ratios(*totals(seconds))
    drawn = _drawn(firsts, draws, seed) - _drawn(seconds, draws, seed)
    return Difference(first, second, spread(drawn, firsts), p_values(firsts, seconds, seed=seed))


def _drawn(strata: Sequence[Stratum], draws: int, seed: int) -> Sums:
    """Both policies' queries are drawn alike: a draw depends on the seed, the dataset and the number of queries."""
    numerator, denominator = zip(*(drawn_sums(s, draws, seed) for s in strata), strict=True)
    return ratios(np.stack(numerator, 1), np.stack(denominator, 1))


def p_values(firsts: Sequence[Stratum], seconds: Sequence[Stratum], *, seed: int = 0) -> Sums:
    """float64 [D + 2, F]; NaN where a policy lacks the figure."""
    pairs = list(zip(firsts, seconds, strict=True))
    seen = ratios(*totals(firsts)) - ratios(*totals(seconds))
    moves = [_moves(first, second) for first, second in pairs]
    differing = sum(len(move) for move in moves)
    exact = differing <= EXACT
    count, tosses = np.zeros(seen.shape), 0
    for coins in _all_coins(differing) if exact else _tossed(differing, seed):
        sides = np.split(coins, np.cumsum([len(move) for move in moves])[:-1], axis=1)
        moved = np.stack([side @ move for side, move in zip(sides, moves, strict=True)], axis=1)
        far = np.abs(_swapped(firsts, moved) - _swapped(seconds, -moved)) >= np.abs(seen) - _ROUNDING
        count += far.sum(0)
        tosses += len(coins)
    p = count / tosses if exact else (count + 1) / (tosses + 1)
    return np.where(np.isfinite(seen), p, np.nan)


def _moves(first: Stratum, second: Stratum) -> NDArray[np.float64]:
    """float64 [queries that differ, 2 F]: what a query adds to the first's sums when its samples change sides."""
    moves = np.concatenate(
        [second.numerator - first.numerator, second.denominator - first.denominator], axis=1, dtype=np.float64
    )
    changed: NDArray[np.float64] = moves[(moves != 0).any(1)]
    return changed


def _swapped(strata: Sequence[Stratum], moved: Sums) -> Sums:
    """The figures after a toss, float64 [tosses, D + 2, F]; `moved` is [tosses, D, 2 F]."""
    numerator, denominator = totals(strata)
    figures = numerator.shape[1]
    return ratios(numerator + moved[..., :figures], denominator + moved[..., figures:])


def _all_coins(queries: int) -> Iterator[NDArray[np.float64]]:
    tosses = np.arange(1 << queries)[:, None] >> np.arange(queries)
    yield (tosses & 1).astype(np.float64)


def _tossed(queries: int, seed: int) -> Iterator[NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    step = max(1, _AT_ONCE // queries)
    for start in range(0, TOSSES, step):
        yield random.integers(2, size=(min(step, TOSSES - start), queries)).astype(np.float64)
