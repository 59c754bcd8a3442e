"""Who shares a query, and who shares an answer: the index arithmetic behind every group-relative feature.

A group is all rollouts of one query. Rollouts without an answer agree with nobody, not even with each other. Sums
over a group are sorted segments (`np.add.reduceat`) or `np.bincount`: no Python loop ever runs over groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.table import FeatureTable

Array = NDArray[Any]


@dataclass(frozen=True)
class Partition:
    """Rollouts cut into disjoint cells.

    Attributes:
        cell: int64 [T], dense, the cell of each rollout.
        count: int64 [C], rollouts in each cell; never 0.
    """

    cell: IntVector
    count: IntVector

    @classmethod
    def of(cls, key: Array) -> Partition:
        """Cells of equal keys."""
        _, cell, count = np.unique(key, return_inverse=True, return_counts=True)
        return cls(cell.astype(np.int64).ravel(), count.astype(np.int64))

    @property
    def size(self) -> IntVector:
        """int64 [T]: how many rollouts are in this one's cell."""
        return self.count[self.cell]

    @property
    def _starts(self) -> IntVector:
        """Where each cell begins when rollouts are sorted by cell."""
        return np.cumsum(self.count) - self.count

    def sums(self, values: Array) -> Array:
        """Sum over each cell: [C] for a vector [T], [C, D] for a matrix [T, D]."""
        if values.ndim == 1:
            return np.bincount(self.cell, values, len(self.count))
        order = np.argsort(self.cell, kind="stable")
        if not len(order):
            return np.zeros((0, values.shape[1]), values.dtype)
        return np.asarray(np.add.reduceat(values[order], self._starts, axis=0))

    def mean(self, values: Array) -> Array:
        """Mean of this rollout's cell, for each rollout."""
        counts = self.count if values.ndim == 1 else self.count[:, None]
        return np.asarray((self.sums(values) / counts)[self.cell])

    def mean_of_others(self, values: FloatVector, otherwise: FloatVector | float) -> FloatVector:
        """Mean over the cell without the rollout itself; `otherwise` where it is alone."""
        others = self.size - 1
        total = self.sums(values)[self.cell] - values
        return np.where(others > 0, total / np.maximum(others, 1), otherwise)

    def maximum(self, values: Array) -> Array:
        """Largest value of this rollout's cell, for each rollout."""
        best = np.full(len(self.count), -np.inf)
        np.maximum.at(best, self.cell, values)
        return best[self.cell]

    def rank(self, values: Array) -> IntVector:
        """Place inside the cell by falling value, 0 for the largest; equal values keep the rollouts' order."""
        order = np.lexsort((np.arange(len(values)), -np.asarray(values, np.float64), self.cell))
        place = np.empty(len(values), np.int64)
        place[order] = np.arange(len(values)) - self._starts[self.cell[order]]
        return place


@dataclass(frozen=True)
class Groups:
    """The partitions of a snapshot's rollouts.

    Attributes:
        query: by query; `query.cell` is dense, `query_of` the position in `snapshot.queries`.
        answer: by shared answer; a rollout without one is a cell of its own.
        own: by query, run, policy and step: what one policy sampled together.
        own_answer: by `own` and `answer`.
        answered: bool [T].
    """

    query: Partition
    answer: Partition
    own: Partition
    own_answer: Partition
    answered: BoolVector
    query_of: IntVector

    @property
    def votes(self) -> FloatVector:
        """float64 [T]: rollouts of the query with this answer, itself included; 0 without an answer."""
        return np.where(self.answered, self.answer.size, 0).astype(np.float64)

    @property
    def share(self) -> FloatVector:
        """float64 [T]: votes over the group's size."""
        return self.votes / self.query.size


def groups_of(snapshot: Snapshot) -> Groups:
    """The groups of a snapshot."""
    query_of = query_of_thinkings(snapshot)
    count = snapshot.thinkings.num_rows
    leads = snapshot.edges["leads_to"]
    answer = np.arange(count, dtype=np.int64) + snapshot.answers.num_rows
    answer[leads.source] = leads.target
    answered = np.zeros(count, bool)
    answered[leads.source] = True
    own_key = query_of
    for name in ("run", "policy", "step"):
        column = snapshot.thinkings[name].combine_chunks().dictionary_encode()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        own_key = Partition.of(own_key).cell * (len(column.dictionary) + 1) + codes
    own = Partition.of(own_key)
    cells = Partition.of(answer)
    own_answer = Partition.of(own.cell * max(len(cells.count), 1) + cells.cell)
    return Groups(Partition.of(query_of), cells, own, own_answer, answered, query_of)


def query_of_thinkings(snapshot: Snapshot) -> IntVector:
    """int64 [T]: position of each rollout's query."""
    generates = snapshot.edges["generates"]
    query = np.zeros(snapshot.thinkings.num_rows, np.int64)
    query[generates.target] = generates.source
    return query


def less_group(table: FeatureTable, groups: Groups) -> FeatureTable:
    """Each column less its mean over the group, as `<name>-group`."""
    names = tuple(name + "-group" for name in table.names)
    return FeatureTable(names, (table.values - groups.query.mean(table.values)).astype(np.float32))


def over_answer(table: FeatureTable, groups: Groups) -> FeatureTable:
    """The mean of each column over the rollouts that share the answer, less the group's, as `<name>@answer`."""
    names = tuple(name + "@answer" for name in table.names)
    values = groups.answer.mean(table.values) - groups.query.mean(table.values)
    return FeatureTable(names, values.astype(np.float32))


def share_logit(share: Array, size: Array) -> FloatVector:
    """Log odds of a share of `size` votes, half a vote added to both sides."""
    votes = share * size
    return np.asarray(np.log((votes + 0.5) / (size - votes + 0.5)), np.float64)
