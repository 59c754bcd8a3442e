"""Metrics of datasets, and means over datasets, as ratios of sums over queries.

Each metric is a numerator over a denominator, both summed over queries. A query drawn twice in a bootstrap therefore
counts twice, and one draw of queries gives all metrics at once. A query without the metric (fewer than k judged
samples) contributes 0 to both sums. There are two means over datasets:

    weighted   sums over all datasets, divided: each sample has the same weight (each query for pass@k and majority@k)
    macro      mean of the datasets' metrics: each dataset with the metric has the same weight
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore_rl.grade.counts import QueryCounts
from memstore_rl.grade.estimators import majority_at_k, pass_at_k

Sums = NDArray[np.float64]
"""float64 [..., D, F]: draws, datasets, metrics."""


class Stratum(NamedTuple):
    """The queries of one dataset that have a judged sample: a stratum of the bootstrap."""

    dataset: str
    queries: tuple[str, ...]
    numerator: NDArray[np.float64]
    """float64 [Q, F]."""
    denominator: NDArray[np.float64]
    """float64 [Q, F]; 0 where the query lacks the metric."""


def metric_names(ks: Sequence[int]) -> tuple[str, ...]:
    """Names of the metrics, in order; majority@1 is left out, since it equals pass@1."""
    return ("accuracy", *(f"pass@{k}" for k in ks), *(f"majority@{k}" for k in ks if k > 1))


def stratum_of(dataset: str, queries: Sequence[QueryCounts], ks: Sequence[int]) -> Stratum:
    """The metrics of each query with a judged sample, ordered by query id."""
    judged = sorted((query for query in queries if query.judged), key=lambda query: query.id)
    rows = [_query_metrics(query, ks) for query in judged]
    pairs = np.array(rows, dtype=np.float64).reshape(len(judged), len(metric_names(ks)), 2)
    return Stratum(dataset, tuple(query.id for query in judged), pairs[..., 0], pairs[..., 1])


def _query_metrics(query: QueryCounts, ks: Sequence[int]) -> list[tuple[float, float]]:
    """Numerator and denominator of each metric."""
    n, absent = query.judged, (0.0, 0.0)
    votes = query.votes()
    return [
        (float(query.correct), float(n)),
        *((pass_at_k(n, query.correct, k), 1.0) if k <= n else absent for k in ks),
        *((majority_at_k(votes, query.unanswered, k), 1.0) if k <= n else absent for k in ks if k > 1),
    ]


def ratios(numerator: Sums, denominator: Sums) -> Sums:
    """float64 [..., D + 2, F]: the metrics of each dataset, then weighted, then macro; NaN where there is none."""
    own = _divide(numerator, denominator)
    weighted = _divide(numerator.sum(-2), denominator.sum(-2))
    present = np.isfinite(own)
    macro = _divide(np.where(present, own, 0.0).sum(-2), present.sum(-2).astype(np.float64))
    return np.concatenate([own, weighted[..., None, :], macro[..., None, :]], axis=-2)


def _divide(numerator: Sums, denominator: Sums) -> Sums:
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out


def totals(strata: Sequence[Stratum]) -> tuple[Sums, Sums]:
    """Summed numerators and denominators, float64 [D, F] each."""
    return np.stack([s.numerator.sum(0) for s in strata]), np.stack([s.denominator.sum(0) for s in strata])
