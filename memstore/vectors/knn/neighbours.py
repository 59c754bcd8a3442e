"""Neighbour lists and the rule for what they hold.

A list holds the k best pairs by (score descending, position ascending), none below the floor. Offering the same pairs
in any order and in any portions gives the same lists, so linking does not depend on the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from memstore.types import BoolVector, IntVector


@dataclass(frozen=True)
class Neighbours:
    """The neighbour lists of N nodes; each row ordered by (score descending, position ascending)."""

    index: NDArray[np.int64]
    """int64 [N, k]: position of the neighbour, -1 where fewer than k exist."""
    score: NDArray[np.float32]
    """float32 [N, k]: cosine, -inf where fewer than k exist."""

    @classmethod
    def none(cls, nodes: int, k: int) -> Self:
        """`nodes` empty lists."""
        return cls(np.full((nodes, k), -1, dtype=np.int64), np.full((nodes, k), -np.inf, dtype=np.float32))

    def copy(self) -> Neighbours:
        """A copy with its own arrays."""
        return Neighbours(self.index.copy(), self.score.copy())

    def differs(self, other: Neighbours) -> BoolVector:
        """bool [N]: rows that differ between the two."""
        unlike: BoolVector = ((self.index != other.index) | (self.score != other.score)).any(axis=1)
        return unlike

    def offer(self, node: IntVector, other: IntVector, score: NDArray[np.float32]) -> None:
        """Insert each `other` into the list of its `node` if it is among the k best, in place.

        Args:
            node, other, score: [P] pairs; repeated pairs count once.
        """
        k = self.index.shape[1]
        touched = np.unique(node)
        held = self.index[touched] >= 0
        node = np.concatenate([np.repeat(touched, held.sum(axis=1)), node])
        other = np.concatenate([self.index[touched][held], other])
        score = np.concatenate([self.score[touched][held], score])

        order = np.lexsort((other, -score, node))
        node, other, score = node[order], other[order], score[order]
        fresh = np.ones(len(node), dtype=np.bool_)
        fresh[1:] = (node[1:] != node[:-1]) | (other[1:] != other[:-1])
        node, other, score = node[fresh], other[fresh], score[fresh]

        rank = rank_in_run(node)
        best = rank < k
        self.index[node[best], rank[best]] = other[best]
        self.score[node[best], rank[best]] = score[best]


def rank_in_run(values: IntVector) -> IntVector:
    """Rank of each value within its run of equal values: [7, 7, 2, 7] -> [0, 1, 0, 0]."""
    if len(values) == 0:
        return np.empty(0, dtype=np.int64)
    start = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    length = np.diff(np.append(start, len(values)))
    return np.arange(len(values), dtype=np.int64) - np.repeat(start, length)
