"""The nearest labelled neighbours of a rollout or a query, exact: where every label that moves a score comes from.

SIMILAR_TO holds a node's nearest neighbours of all; at a label budget of 20 % four in five of those have no label.
Here the candidates are the labelled ones alone, so a neighbour is never displaced by rollouts nobody has checked,
and a group has the same neighbours whether it is in the memory or not.

Invariants: a query's own labels are never among its neighbours; a row's neighbours do not depend, to the last bit,
on the rows that are looked up with it. For that, similarities are computed in blocks of one fixed shape: a matrix
product rounds differently under another shape, and among equal texts the last bit decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import BoolVector, FloatMatrix, FloatVector, IntVector

ROWS = 64
"""Rows of one block of similarities."""
TEMPERATURE = 0.1
UNKNOWN = 0.5


class Nearest(NamedTuple):
    """Neighbours of N rows, in no particular order.

    position: int64 [N, k], rows of the `Labelled`; 0 where fewer than k exist.
    cosine: float32 [N, k]; 0 there.
    present: bool [N, k]; False there.
    """

    position: NDArray[np.int64]
    cosine: FloatMatrix
    present: NDArray[np.bool_]


@dataclass(frozen=True)
class Labelled:
    """Labelled nodes of one kind.

    Attributes:
        vectors: float32 [L, D].
        label: float64 [L].
        query: int64 [L], the query it belongs to.
        row: int64 [L], where the node stands in its table.
    """

    vectors: FloatMatrix
    label: FloatVector
    query: IntVector
    row: IntVector

    @property
    def mean(self) -> float:
        """Mean label; 0.5 without any."""
        return float(self.label.mean()) if len(self.label) else 0.5

    def nearest(self, vectors: FloatMatrix, query: IntVector, known: BoolVector, k: int) -> Nearest:
        """The k most similar ones of other queries.

        Args:
            vectors: float32 [N, D].
            query: int64 [N], the query that is left out; -1 for none.
            known: bool [N]; a row without a vector has no neighbours.
        """
        position = np.zeros((len(vectors), k), np.int64)
        cosine = np.zeros((len(vectors), k), np.float32)
        present = np.zeros((len(vectors), k), np.bool_)
        kept = min(k, len(self.label))
        if not kept:
            return Nearest(position, cosine, present)
        block = np.zeros((ROWS, vectors.shape[1]), np.float32)
        for start in range(0, len(vectors), ROWS):
            rows = slice(start, min(start + ROWS, len(vectors)))
            block[: rows.stop - start] = vectors[rows]
            similar = (block @ self.vectors.T)[: rows.stop - start]
            similar[query[rows, None] == self.query[None, :]] = -np.inf
            best = np.argpartition(similar, similar.shape[1] - kept, axis=1)[:, -kept:]
            near = np.take_along_axis(similar, best, axis=1)
            found = np.isfinite(near) & known[rows, None]
            position[rows, :kept] = np.where(found, best, 0)
            cosine[rows, :kept] = np.where(found, near, 0.0)
            present[rows, :kept] = found
        return Nearest(position, cosine, present)

    def mean_label(self, near: Nearest) -> tuple[FloatVector, FloatVector]:
        """Mean label of the neighbours, weighted by softmax(cosine / 0.1), and their mean cosine; both float64 [N].

        0.5 and 0 where there is no neighbour: the mean of all labels would hold the row's own query's.
        """
        cosine = np.where(near.present, near.cosine.astype(np.float64), -np.inf)
        found = near.present.any(axis=1)
        top = np.where(found, cosine.max(axis=1, initial=-np.inf), 0.0)
        weight = np.exp((cosine - top[:, None]) / TEMPERATURE)
        total = np.where(found, weight.sum(axis=1), 1.0)
        labels = self.label[near.position] if len(self.label) else np.zeros(near.position.shape)
        label = (weight * labels).sum(axis=1) / total
        mean = near.cosine.astype(np.float64).sum(axis=1) / np.maximum(near.present.sum(axis=1), 1)
        return np.where(found, label, UNKNOWN), mean
