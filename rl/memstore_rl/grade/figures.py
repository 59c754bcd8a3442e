"""Figures of datasets, and over datasets, as ratios of sums over queries.

Every figure is a numerator over a denominator, each a sum over queries: so a query drawn twice counts twice, and one
draw of queries gives all figures at once. A query that cannot have a figure (fewer than k judged samples) has 0 in
both. Over datasets there are two means:

    weighted   the sums of all datasets, divided: every sample counts the same, for pass@k and majority@k every query
    macro      the mean of the datasets' figures: every dataset that has the figure counts the same
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore_rl.grade.counts import QueryTally
from memstore_rl.grade.estimates import majority_at_k, pass_at_k

Sums = NDArray[np.float64]
"""float64 [..., D, F]: draws, datasets, figures."""


class Stratum(NamedTuple):
    """The queries of one dataset that have a judged sample."""

    dataset: str
    queries: tuple[str, ...]
    numerator: NDArray[np.float64]
    """float64 [Q, F]."""
    denominator: NDArray[np.float64]
    """float64 [Q, F]; 0 where the query has no such figure."""


def figure_names(ks: Sequence[int]) -> tuple[str, ...]:
    """The figures in their order. A vote of one is that one, so majority@1 would be pass@1 again."""
    return ("accuracy", *(f"pass@{k}" for k in ks), *(f"majority@{k}" for k in ks if k > 1))


def stratum_of(dataset: str, tallies: Sequence[QueryTally], ks: Sequence[int]) -> Stratum:
    """The figures of each query with a judged sample, in the order of the queries' ids."""
    judged = sorted((tally for tally in tallies if tally.judged), key=lambda tally: tally.id)
    rows = [_figures(tally, ks) for tally in judged]
    pairs = np.array(rows, dtype=np.float64).reshape(len(judged), len(figure_names(ks)), 2)
    return Stratum(dataset, tuple(tally.id for tally in judged), pairs[..., 0], pairs[..., 1])


def _figures(tally: QueryTally, ks: Sequence[int]) -> list[tuple[float, float]]:
    n, absent = tally.judged, (0.0, 0.0)
    votes = tally.votes()
    return [
        (float(tally.right), float(n)),
        *((pass_at_k(n, tally.right, k), 1.0) if k <= n else absent for k in ks),
        *((majority_at_k(votes, tally.silent, k), 1.0) if k <= n else absent for k in ks if k > 1),
    ]


def ratios(numerator: Sums, denominator: Sums) -> Sums:
    """float64 [..., D + 2, F]: the figures of each dataset, then weighted, then macro; NaN where there is none."""
    own = _divided(numerator, denominator)
    weighted = _divided(numerator.sum(-2), denominator.sum(-2))
    there = np.isfinite(own)
    macro = _divided(np.where(there, own, 0.0).sum(-2), there.sum(-2).astype(np.float64))
    return np.concatenate([own, weighted[..., None, :], macro[..., None, :]], axis=-2)


def _divided(numerator: Sums, denominator: Sums) -> Sums:
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def totals(strata: Sequence[Stratum]) -> tuple[Sums, Sums]:
    """Numerators and denominators, float64 [D, F] each."""
    return np.stack([s.numerator.sum(0) for s in strata]), np.stack([s.denominator.sum(0) for s in strata])
