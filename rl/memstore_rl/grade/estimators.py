"""Estimators of pass@k and majority@k for one query.

Both are expectations over k of the query's n judged samples, drawn uniformly without replacement. They are computed
exactly (up to rounding), not by sampling.

pass@k       at least one of the k samples is correct: 1 - C(n - c, k) / C(n, k) with c correct samples, the unbiased
             estimator of the probability for k fresh samples (Chen et al., 2021, arXiv 2107.03374).
majority@k   the k samples vote with the canonical value of their answer. The value with the most votes wins; ties are
             broken uniformly. Samples without an answer do not vote; without any vote the query counts as wrong. A
             winning value counts with the share of its samples that are correct.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector

_Rows = NDArray[np.float64]


class AnswerVotes(NamedTuple):
    """The votes of one answer of a query."""

    samples: int
    """Number of samples with this answer."""
    correct: float
    """Share of these samples that are correct, 0..1."""


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The probability that k of the samples, drawn without replacement, contain a correct one.

    Args:
        samples: n, at least k.
        correct: c, the number of correct samples.
    """
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def majority_at_k(votes: Sequence[AnswerVotes], unanswered: int, k: int) -> float:
    """The probability that the majority answer of k samples is correct.

    Args:
        votes: the votes of each answer.
        unanswered: samples without an answer; together with the votes these are n samples, at least k.
    """
    probabilities = winning_probabilities(tuple(sorted(vote.samples for vote in votes)), unanswered, k)
    return min(1.0, sum(probabilities[vote.samples] * vote.correct for vote in votes))


@lru_cache(maxsize=65_536)
def winning_probabilities(sizes: tuple[int, ...], unanswered: int, k: int) -> dict[int, float]:
    """For each size in `sizes`, the probability that a given answer with that many samples wins among k.

    The counts of a draw without replacement are binomial counts conditioned on their sum being k. The probability is
    therefore a sum of products of binomial probabilities, over the winner's number of votes and the number of ties.
    """
    total = sum(sizes) + unanswered
    if k == total:
        top = max(sizes, default=0)
        return {size: (size == top) / sizes.count(top) for size in sizes}
    binomials = {size: _binomial(size, k / total, k) for size in {*sizes, unanswered}}
    won = dict.fromkeys(sizes, 0.0)
    for votes in range(1, min(k, max(sizes, default=0)) + 1):
        factors = {size: _Factor.of(binomials[size], votes, k - votes) for size in set(sizes)}
        for size in won:
            if size >= votes:
                others = Counter(sizes) - Counter([size])
                rest = _rest_probability(others, factors, binomials[unanswered], k - votes)
                won[size] += float(binomials[size][votes]) * rest
    condition = float(_binomial(total, k / total, k)[k])
    return {size: value / condition for size, value in won.items()}


class _Factor(NamedTuple):
    """Adds the votes of one losing or tying answer to the distribution of a draw with a given winning count."""

    below: _Rows
    """float64 [R + 1, R + 1]: transition of the distribution over counts if this answer gets fewer votes."""
    tie: float
    """Probability that it gets exactly as many votes."""
    votes: int
    """Votes of the winner."""

    @classmethod
    def of(cls, binomial: FloatVector, votes: int, remaining: int) -> _Factor:
        below = np.zeros((remaining + 1, remaining + 1))
        for count, value in enumerate(binomial[: min(votes, remaining + 1)]):
            below += np.diag(np.full(remaining + 1 - count, value), count)
        return cls(below, float(binomial[votes]) if votes < len(binomial) else 0.0, votes)

    def apply(self, rows: _Rows) -> _Rows:
        """The distribution over ties (rows) and counts (columns) with this answer's votes added."""
        out: _Rows = rows @ self.below
        if self.tie and self.votes < rows.shape[1]:
            out[1:, self.votes :] += self.tie * rows[:-1, : -self.votes]
        return out


def _rest_probability(
    others: Counter[int], factors: dict[int, _Factor], unanswered: FloatVector, remaining: int
) -> float:
    """The probability that the other samples fill the `remaining` places without beating the winner; ties are split."""
    votes = next(iter(factors.values())).votes
    rows: _Rows = np.zeros((remaining // votes + 1, remaining + 1))
    rows[0, : len(unanswered)] = unanswered[: remaining + 1]
    for size, count in others.items():
        for _ in range(count):
            rows = factors[size].apply(rows)
    return float((rows[:, remaining] / np.arange(1, len(rows) + 1)).sum())


def _binomial(trials: int, probability: float, most: int) -> FloatVector:
    """float64 [min(trials, most) + 1]: binomial probability of each count; 0 < probability < 1."""
    counts = np.arange(min(trials, most) + 1)
    choices = np.array([math.lgamma(c + 1) + math.lgamma(trials - c + 1) for c in counts])
    logs = (
        math.lgamma(trials + 1)
        - choices
        + counts * math.log(probability)
        + (trials - counts) * math.log1p(-probability)
    )
    return np.asarray(np.exp(logs), dtype=np.float64)
