"""What one query's samples say of a policy: pass@k and majority@k.

Both are expectations over the k samples that one might have drawn: k of the query's n judged samples, without
replacement, all choices alike. Nothing is drawn here; the expectations are exact but for rounding.

pass@k       at least one of the k is right: 1 - C(n - c, k) / C(n, k) with c right ones, the unbiased estimate of the
             chance that k fresh samples hold a right one (Chen et al., 2021, arXiv 2107.03374).
majority@k   the k samples vote by their answer's canonical value; the value with most votes wins, and of those that tie
             each has the same chance. A sample without an answer does not vote; where nobody votes the query is lost.
             A value's worth is the share of its samples that are right.
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


class Vote(NamedTuple):
    """One answer of a query."""

    samples: int
    """How many samples gave it."""
    right: float
    """The share of these that is right, 0..1."""


def pass_at_k(samples: int, right: int, k: int) -> float:
    """The chance that k of the samples, taken without replacement, hold a right one.

    Args:
        samples: n, at least k.
        right: c, of these.
    """
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def majority_at_k(votes: Sequence[Vote], silent: int, k: int) -> float:
    """The chance that the answer which wins among k of the samples is right.

    Args:
        votes: the answers that were given.
        silent: samples without an answer; with those of `votes` they are n, at least k.
    """
    chance = winning_chances(tuple(sorted(vote.samples for vote in votes)), silent, k)
    return min(1.0, sum(chance[vote.samples] * vote.right for vote in votes))


@lru_cache(maxsize=65_536)
def winning_chances(sizes: tuple[int, ...], silent: int, k: int) -> dict[int, float]:
    """For each size of `sizes`, the chance that a certain answer with so many samples wins among k.

    Counts of a draw without replacement are binomial counts given that their sum is k; so the chance is a sum of
    products of binomial probabilities, over how many votes win and how many answers tie.
    """
    everyone = sum(sizes) + silent
    if k == everyone:
        top = max(sizes, default=0)
        return {size: (size == top) / sizes.count(top) for size in sizes}
    chance = {size: _binomial(size, k / everyone, k) for size in {*sizes, silent}}
    won = dict.fromkeys(sizes, 0.0)
    for votes in range(1, min(k, max(sizes, default=0)) + 1):
        factors = {size: _Factor.of(chance[size], votes, k - votes) for size in set(sizes)}
        for size in won:
            if size >= votes:
                others = Counter(sizes) - Counter([size])
                won[size] += float(chance[size][votes]) * _rest(others, factors, chance[silent], k - votes)
    total = float(_binomial(everyone, k / everyone, k)[k])
    return {size: value / total for size, value in won.items()}


class _Factor(NamedTuple):
    """What another answer adds to the counts of a draw in which so many votes win."""

    below: _Rows
    """float64 [R + 1, R + 1]: times a row of chances by count, the row after this answer got fewer votes."""
    tie: float
    """The chance that it got exactly as many."""
    votes: int

    @classmethod
    def of(cls, chance: FloatVector, votes: int, room: int) -> _Factor:
        below = np.zeros((room + 1, room + 1))
        for count, value in enumerate(chance[: min(votes, room + 1)]):
            below += np.diag(np.full(room + 1 - count, value), count)
        return cls(below, float(chance[votes]) if votes < len(chance) else 0.0, votes)

    def after(self, rows: _Rows) -> _Rows:
        """Chances by ties and count, with this answer's votes added."""
        out: _Rows = rows @ self.below
        if self.tie and self.votes < rows.shape[1]:
            out[1:, self.votes :] += self.tie * rows[:-1, : -self.votes]
        return out


def _rest(others: Counter[int], factors: dict[int, _Factor], silent: FloatVector, room: int) -> float:
    """The chance that the other answers and the silent samples take `room` places, nobody ahead; a tie is shared."""
    votes = next(iter(factors.values())).votes
    rows: _Rows = np.zeros((room // votes + 1, room + 1))
    rows[0, : len(silent)] = silent[: room + 1]
    for size, count in others.items():
        for _ in range(count):
            rows = factors[size].after(rows)
    return float((rows[:, room] / np.arange(1, len(rows) + 1)).sum())


def _binomial(trials: int, chance: float, most: int) -> FloatVector:
    """float64 [min(trials, most) + 1], the probability of each count; 0 < chance < 1."""
    counts = np.arange(min(trials, most) + 1)
    choices = np.array([math.lgamma(c + 1) + math.lgamma(trials - c + 1) for c in counts])
    logs = math.lgamma(trials + 1) - choices + counts * math.log(chance) + (trials - counts) * math.log1p(-chance)
    return np.asarray(np.exp(logs), dtype=np.float64)
