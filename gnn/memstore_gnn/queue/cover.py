r"""Choose queries whose labels cover the uncertain queries: greedy maximisation of

.. math::
    F(L) = \sum_q u_q \max_{l \in L} \, \max(sim(q, l), 0)^k, \quad u_q = 4 s_q (1 - s_q) + f

over sets L of labelled queries, with the share s of a query's most frequent answer, the uncertainty u, and the cosine
sim. A query on which half of the rollouts agree is the most uncertain; where no two agree, few are right, and neither a
policy nor a reward model learns much from the label. F is monotone and submodular, so the greedy set has at least
1 - 1/e of the best value. The gain of a query can only fall as L grows, so that a query is evaluated again only when
its last gain is the highest one ("lazy greedy"), in blocks that grow.

In a large memory the sum is over a random sample of the queries, so that time and memory stay linear in the candidates.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import BoolVector, FloatMatrix, FloatVector, IntVector
from memstore.vectors.knn import nearest

_BLOCK = 512
"""Candidates in one matrix product."""


@dataclass(frozen=True)
class CoverSettings:
    """Settings of the choice."""

    floor: float = 0.1
    """Uncertainty f of a query on which all rollouts agree; the largest is 1 + f. From the table "Which problems to
    label" of research/policy_learning_log.md."""
    exponent: int = 8
    """Exponent k of the cosine, at least 1. The cosines between questions of one kind are all high (.4 to .7 in that
    table), so that with k = 1 each query would cover all others."""
    sample: int = 4096
    """Queries that the sum is over; a memory with more is sampled."""
    duplicate: float = 0.98
    """Cosine from which a query is a near-duplicate of a labelled, chosen or audit query."""
    seed: int = 0
    """Seed of the sample."""


class Pick(NamedTuple):
    """A chosen query."""

    row: int
    gain: float
    """How much it adds to the sum, as a share of the sum of all uncertainties; by worth, its worth."""
    similarity: float
    """Cosine to the nearest labelled, chosen or audit query; 0 if there is none."""


class Neighbourhood:
    """Vectors that near-duplicates are told by: those of labelled, audit and chosen queries.

    Args:
        x: float32 [K, D].
    """

    def __init__(self, x: FloatMatrix) -> None:
        self._x, self._count = np.ascontiguousarray(x), len(x)

    def similarity(self, vector: FloatMatrix) -> float:
        """Highest cosine to one of them; 0 if there is none."""
        return float((self._x[: self._count] @ vector).max(initial=0.0))

    def add(self, vector: FloatMatrix) -> None:
        """Add a vector, float32 [D]."""
        if self._count == len(self._x):
            grown = np.zeros((max(64, 2 * len(self._x)), len(vector)), np.float32)
            grown[: self._count] = self._x
            self._x = grown
        self._x[self._count] = vector
        self._count += 1


def uncertainty(share: FloatVector, settings: CoverSettings) -> FloatVector:
    """Uncertainty of queries, float64 [N], by the shares of their most frequent answers (0..1)."""
    return 4.0 * share * (1.0 - share) + settings.floor


class Cover:
    """State of the greedy choice.

    Args:
        x: float32 [N, D], unit vectors of the queries; zero without a vector.
        uncertainty: float64 [N].
        labelled: bool [N], queries that cover others already.
    """

    def __init__(self, x: FloatMatrix, uncertainty: FloatVector, labelled: BoolVector, settings: CoverSettings) -> None:
        self.x = x
        rows = np.arange(len(x))
        if len(x) > settings.sample:
            rows = np.sort(np.random.default_rng(settings.seed).choice(len(x), settings.sample, replace=False))
        weight = uncertainty[rows]
        self._exponent = settings.exponent
        self._targets = np.ascontiguousarray(x[rows].T)
        self._weight = (weight / max(float(weight.sum()), 1e-12)).astype(np.float32)
        self._covered = self._initial(x[rows], x[labelled])

    def _initial(self, x: FloatMatrix, labelled: FloatMatrix) -> NDArray[np.float32]:
        if not len(labelled) or not len(x):
            return np.zeros(len(x), np.float32)
        return self._similarity(nearest(x, labelled, 1).score[:, 0].astype(np.float32))

    def _similarity(self, cosine: NDArray[np.float32]) -> NDArray[np.float32]:
        """The power of cosines, which are overwritten; repeated squaring is ten times as fast as numpy's power."""
        base = np.maximum(cosine, 0.0, out=cosine)
        result = base.copy()
        for bit in f"{self._exponent:b}"[1:]:
            result *= result
            if bit == "1":
                result *= base
        return result

    def gains(self, rows: IntVector) -> NDArray[np.float32]:
        """What each query would add to the sum, float32 [rows]."""
        found = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), _BLOCK):
            part = self._similarity(self.x[rows[start : start + _BLOCK]] @ self._targets)
            part -= self._covered
            np.maximum(part, 0.0, out=part)
            found[start : start + _BLOCK] = part @ self._weight
        return found

    def take(self, row: int) -> None:
        """Label a query."""
        np.maximum(self._covered, self._similarity(self.x[row] @ self._targets), out=self._covered)


def cover_queries(x: FloatMatrix, share: FloatVector, limit: int, settings: CoverSettings | None = None) -> list[int]:
    """Choose up to `limit` of N queries none of which is labelled, in order.

    Args:
        x: float32 [N, D], unit vectors of the queries.
        share: float64 [N], share of each query's most frequent answer, 0..1.
    """
    settings = settings or CoverSettings()
    cover = Cover(x, uncertainty(share, settings), np.zeros(len(x), np.bool_), settings)
    return [pick.row for pick in greedy(cover, np.arange(len(x)), Neighbourhood(x[:0]), limit, settings.duplicate)]


def greedy(cover: Cover, rows: IntVector, known: Neighbourhood, limit: int, duplicate: float) -> list[Pick]:
    """Choose up to `limit` of these queries; near-duplicates only where too few others are left."""
    picks, late = _greedy(cover, rows, known, limit, duplicate)
    if late and len(picks) < limit:
        picks += _greedy(cover, np.array(sorted(late), np.int64), known, limit - len(picks), np.inf)[0]
    return picks


def _greedy(
    cover: Cover, rows: IntVector, known: Neighbourhood, limit: int, duplicate: float
) -> tuple[list[Pick], list[int]]:
    """The chosen queries, and the near-duplicates that were left out."""
    heap = [(-gain, row) for gain, row in zip(cover.gains(rows).tolist(), rows.tolist(), strict=True)]
    heapq.heapify(heap)
    fresh: set[int] = set(rows.tolist())
    picks: list[Pick] = []
    late: list[int] = []
    width = 1
    while heap and len(picks) < limit:
        if heap[0][1] not in fresh:
            stale: list[int] = []
            while heap and len(stale) < width and heap[0][1] not in fresh:
                stale.append(heapq.heappop(heap)[1])
            for gain, row in zip(cover.gains(np.array(stale, np.int64)).tolist(), stale, strict=True):
                heapq.heappush(heap, (-gain, row))
            fresh.update(stale)
            width = min(2 * width, _BLOCK)
            continue
        gain, row = heapq.heappop(heap)
        similarity = known.similarity(cover.x[row])
        if similarity >= duplicate:
            late.append(row)
            continue
        picks.append(Pick(row, -gain, similarity))
        known.add(cover.x[row])
        cover.take(row)
        fresh, width = set(), 1
    return picks, late


def in_order(
    x: FloatMatrix, rows: IntVector, worth: FloatVector, known: Neighbourhood, limit: int, duplicate: float
) -> list[Pick]:
    """Choose the queries of the highest worth (float64 [N]); near-duplicates only where too few others are left."""
    picks: list[Pick] = []
    late: list[Pick] = []
    for row in rows[np.argsort(-worth[rows], kind="stable")].tolist():
        if len(picks) == limit:
            break
        pick = Pick(row, float(worth[row]), known.similarity(x[row]))
        if pick.similarity >= duplicate:
            late.append(pick)
            continue
        picks.append(pick)
        known.add(x[row])
    return [*picks, *late[: limit - len(picks)]]
