"""Find the nearest labelled neighbours of queries and rollouts.

SIMILAR_TO edges link a node to its nearest neighbours of any kind. At a label budget of 20 %, four in five of these
have no label. Here only labelled nodes are candidates, so unlabelled rollouts do not displace a labelled neighbour,
and a group has the same neighbours whether or not it is in the memory.

Queries are compared with every labelled query. Thinkings are compared with every labelled thinking if there are at
most `EXACT_UP_TO`; otherwise with the thinkings of the `WIDE` labelled queries nearest to their own query, so that
the cost of a group does not grow with the number of thinkings. Both compute exact cosines.

Invariants: a query's own labels are never among its neighbours, and a group's neighbours do not depend on the other
groups of the same call. For the second, similarities are computed in blocks of a fixed shape or group by group,
because a matrix product rounds differently for another shape, and the last bit decides among equal texts. The row
inside a block can still change the last bit of a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.runtime.threads import in_threads
from memstore.types import BoolVector, FloatMatrix, FloatVector, IntVector

ROWS = 64
"""Rows of one block of similarities."""
EXACT_UP_TO = 4096
"""Largest number of labelled thinkings that are all compared."""
WIDE = 32
"""Labelled queries whose thinkings are compared if there are more."""
TEMPERATURE = 0.1
"""Temperature of the softmax over cosines that weighs the neighbours' labels."""
UNKNOWN = 0.5
"""Mean label of a row without neighbours."""


class Nearest(NamedTuple):
    """Neighbours of N rows, in no particular order.

    position: int64 [N, k], rows of the `Labelled`; 0 where fewer than k exist.
    cosine: float32 [N, k]; 0 there.
    present: bool [N, k]; False there.
    """

    position: NDArray[np.int64]
    cosine: FloatMatrix
    present: NDArray[np.bool_]

    @classmethod
    def none(cls, rows: int, k: int) -> Nearest:
        """No neighbours, for a number of rows."""
        shape = (rows, k)
        return cls(np.zeros(shape, np.int64), np.zeros(shape, np.float32), np.zeros(shape, np.bool_))

    def best(self, k: int) -> Nearest:
        """The k nearest of these neighbours."""
        if k >= self.position.shape[1]:
            return self
        order = np.argsort(np.where(self.present, -self.cosine, np.inf), axis=1, kind="stable")[:, :k]
        return Nearest(
            np.take_along_axis(self.position, order, axis=1),
            np.take_along_axis(self.cosine, order, axis=1),
            np.take_along_axis(self.present, order, axis=1),
        )


class NearBoth(NamedTuple):
    """Neighbours of Q queries and of T thinkings."""

    query: Nearest
    thinking: Nearest


@dataclass(frozen=True)
class Labelled:
    """Labelled nodes of one kind.

    Attributes:
        vectors: float32 [L, D].
        label: float64 [L].
        query: int64 [L], the query that the node belongs to.
        row: int64 [L], the node's row in its table.
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
        """The k nearest labelled nodes of other queries.

        Args:
            vectors: float32 [N, D].
            query: int64 [N], the query to leave out; -1 for none.
            known: bool [N]; a row without a vector has no neighbours.
        """
        made = Nearest.none(len(vectors), k)
        position, cosine, present = made
        kept = min(k, len(self.label))
        if not kept:
            return made

        def search(start: int) -> None:
            rows = slice(start, min(start + ROWS, len(vectors)))
            block = np.zeros((ROWS, vectors.shape[1]), np.float32)
            block[: rows.stop - start] = vectors[rows]
            similar = (block @ self.vectors.T)[: rows.stop - start]
            if (query[rows] >= 0).any():
                similar[query[rows, None] == self.query[None, :]] = -np.inf
            best = np.argpartition(similar, similar.shape[1] - kept, axis=1)[:, -kept:]
            near = np.take_along_axis(similar, best, axis=1)
            found = np.isfinite(near) & known[rows, None]
            position[rows, :kept] = np.where(found, best, 0)
            cosine[rows, :kept] = np.where(found, near, 0.0)
            present[rows, :kept] = found

        in_threads(search, range(0, len(vectors), ROWS))
        return made

    def nearest_within(
        self, vectors: FloatMatrix, owner: IntVector, known: BoolVector, k: int, near: Nearest
    ) -> Nearest:
        """The k nearest labelled nodes among those of some queries.

        Args:
            vectors: float32 [N, D].
            owner: int64 [N], the row of `near` that the thinking belongs to.
            known: bool [N].
            near: [Q, K], the queries, by `self.query`.
        """
        made = Nearest.none(len(vectors), k)
        order = np.argsort(owner, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1) if len(order) else []:
            queries = near.position[owner[rows[0]]][near.present[owner[rows[0]]]]
            candidates = self._of_queries(queries)
            kept = min(k, len(candidates))
            if kept:
                similar = vectors[rows] @ self.vectors[candidates].T
                best = np.argpartition(similar, len(candidates) - kept, axis=1)[:, -kept:]
                found = np.broadcast_to(known[rows, None], best.shape)
                made.position[rows, :kept] = np.where(found, candidates[best], 0)
                made.cosine[rows, :kept] = np.where(found, np.take_along_axis(similar, best, axis=1), 0.0)
                made.present[rows, :kept] = found
        return made

    def _of_queries(self, queries: IntVector) -> IntVector:
        """Positions of the nodes of some queries, ascending."""
        order, start = self._by_query
        parts = [order[start[query] : start[query + 1]] for query in queries.tolist()]
        return np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)

    @cached_property
    def _by_query(self) -> tuple[IntVector, IntVector]:
        """Positions ordered by query, and the start of each query."""
        count = np.bincount(self.query) if len(self.query) else np.zeros(0, np.int64)
        return np.argsort(self.query, kind="stable"), np.concatenate(([0], np.cumsum(count)))

    def mean_label(self, near: Nearest) -> tuple[FloatVector, FloatVector]:
        """Mean label of the neighbours, weighted by softmax(cosine / 0.1), and their mean cosine; both float64 [N].

        Without a neighbour they are 0.5 and 0. The mean of all labels would include the row's own query.
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


class Rows(NamedTuple):
    """Rows to look up: Q queries and their T thinkings.

    query_x: float32 [Q, D]. query_known: bool [Q], the query has a vector.
    query: int64 [Q], the query of the memory to leave out, -1 for none.
    thinking_x: float32 [T, D]. thinking_known: bool [T].
    query_of: int64 [T], the query of each thinking, 0..Q-1.
    """

    query_x: FloatMatrix
    query_known: BoolVector
    query: IntVector
    thinking_x: FloatMatrix
    thinking_known: BoolVector
    query_of: IntVector


def nearest_labelled(queries: Labelled, thinkings: Labelled, rows: Rows, k: int) -> NearBoth:
    """The k nearest labelled queries and thinkings; see the module's docstring."""
    if len(thinkings.label) <= EXACT_UP_TO:
        near = queries.nearest(rows.query_x, rows.query, rows.query_known, k)
        return NearBoth(near, thinkings.nearest(rows.thinking_x, rows.query[rows.query_of], rows.thinking_known, k))
    wide = queries.nearest(rows.query_x, rows.query, rows.query_known, max(k, WIDE))
    position = queries.query[wide.position] if len(queries.query) else wide.position
    of_queries = Nearest(position, wide.cosine, wide.present)
    found = thinkings.nearest_within(rows.thinking_x, rows.query_of, rows.thinking_known, k, of_queries)
    return NearBoth(wide.best(k), found)
