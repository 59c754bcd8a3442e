"""Neighbour lists, and the one rule of what belongs in them.

A list holds the k best by the total order (score descending, position ascending), never below the floor. The rule
looks at sets only: offering the same pairs in any order and in any portions gives the same lists, which is why
linking does not depend on how the nodes arrived.
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
    """int64 [N, k]: position of the neighbour, -1 where there are fewer."""
    score: NDArray[np.float32]
    """float32 [N, k]: cosine, -inf where there is none."""

    @classmethod
    def none(cls, nodes: int, k: int) -> Self:
        """`nodes` empty lists."""
        return cls(np.full((nodes, k), -1, dtype=np.int64), np.full((nodes, k), -np.inf, dtype=np.float32))

    def copy(self) -> Neighbours:
        """The same lists in arrays of their own."""
        return Neighbours(self.index.copy(), self.score.copy())

    def differs(self, other: Neighbours) -> BoolVector:
        """bool [N]: the rows that are not the same in both."""
        unlike: BoolVector = ((self.index != other.index) | (self.score != other.score)).any(axis=1)
        return unlike

    def offer(self, node: IntVector, other: IntVector, score: NDArray[np.float32]) -> None:
        """Let each `other` into the list of its `node` if it belongs there, in place.

        Args:
            node, other, score: [P] pairs; a pair that a list already holds, or that comes twice, counts once.
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
    """How many equal values stand directly before each: [7, 7, 2, 7] -> [0, 1, 0, 0]."""
    if len(values) == 0:
        return np.empty(0, dtype=np.int64)
    start = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    length = np.diff(np.append(start, len(values)))
    return np.arange(len(values), dtype=np.int64) - np.repeat(start, length)
