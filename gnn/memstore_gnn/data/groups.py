"""Partition rollouts by query and by answer, and compute sums, means and ranks over each part.

Here a group is all rollouts of one query in the snapshot. The rewards of a trainer and the scores of a file pass the
rollouts that one policy sampled together as a snapshot; in one of a whole memory, `policy_group` separates them.
Rollouts without an answer agree with no other rollout, not even with each other. Sums over a group use sorted segments
(`np.add.reduceat`) or `np.bincount`; there is no Python loop over groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.table import FeatureTable

Array = NDArray[Any]


@dataclass(frozen=True)
class Partition:
    """A partition of the rollouts into disjoint cells.

    Attributes:
        cell: int64 [T], the cell of each rollout, 0..C-1.
        count: int64 [C], rollouts in each cell; never 0.
    """

    cell: IntVector
    count: IntVector

    @classmethod
    def of(cls, key: Array) -> Partition:
        """Put rollouts with equal keys in one cell."""
        _, cell, count = np.unique(key, return_inverse=True, return_counts=True)
        return cls(cell.astype(np.int64).ravel(), count.astype(np.int64))

    @property
    def size(self) -> IntVector:
        """Number of rollouts in each rollout's cell, int64 [T]."""
        return self.count[self.cell]

    @property
    def _starts(self) -> IntVector:
        """Start of each cell when rollouts are sorted by cell."""
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
        """Mean over each rollout's cell: [T] or [T, D]."""
        counts = self.count if values.ndim == 1 else self.count[:, None]
        return np.asarray((self.sums(values) / counts)[self.cell])

    def mean_of_others(self, values: FloatVector, otherwise: FloatVector | float) -> FloatVector:
        """Mean over the other rollouts of the cell, float64 [T]; `otherwise` in a cell of one rollout."""
        others = self.size - 1
        total = self.sums(values)[self.cell] - values
        return np.where(others > 0, total / np.maximum(others, 1), otherwise)

    def maximum(self, values: Array) -> Array:
        """Maximum over each rollout's cell, float64 [T]."""
        best = np.full(len(self.count), -np.inf)
        np.maximum.at(best, self.cell, values)
        return best[self.cell]

    def rank(self, values: Array) -> IntVector:
        """Rank inside the cell by decreasing value, int64 [T], 0 for the largest; ties keep the rollouts' order."""
        order = np.lexsort((np.arange(len(values)), -np.asarray(values, np.float64), self.cell))
        rank = np.empty(len(values), np.int64)
        rank[order] = np.arange(len(values)) - self._starts[self.cell[order]]
        return rank


@dataclass(frozen=True)
class Groups:
    """The partitions of a snapshot's rollouts.

    Attributes:
        query: by query. `query.cell` numbers the queries that have rollouts.
        query_of: int64 [T], position of the rollout's query in `snapshot.queries`.
        answer: by query and answer; a rollout without an answer has a cell of its own.
        policy_group: by query, run, policy and step: the rollouts that one policy sampled together.
        policy_answer: by `policy_group` and `answer`.
        answered: bool [T], the rollout has an answer.
    """

    query: Partition
    answer: Partition
    policy_group: Partition
    policy_answer: Partition
    answered: BoolVector
    query_of: IntVector

    @property
    def votes(self) -> FloatVector:
        """Rollouts of the group with this answer, itself included, float64 [T]; 0 without an answer."""
        return np.where(self.answered, self.answer.size, 0).astype(np.float64)

    @property
    def share(self) -> FloatVector:
        """Votes divided by the group's size, float64 [T]."""
        return self.votes / self.query.size

    def take(self, rows: IntVector) -> Groups:
        """The partitions of some rollouts: `rows`, ascending, all rollouts of some queries."""
        parts = {name: getattr(self, name) for name in ("query", "answer", "policy_group", "policy_answer")}
        taken = {name: Partition.of(part.cell[rows]) for name, part in parts.items()}
        _, query_of = np.unique(self.query_of[rows], return_inverse=True)
        return replace(self, **taken, answered=self.answered[rows], query_of=query_of.astype(np.int64))


def groups_of(snapshot: Snapshot) -> Groups:
    """Compute the groups of a snapshot."""
    query_of = query_of_thinkings(snapshot)
    count = snapshot.thinkings.num_rows
    leads = snapshot.edges["leads_to"]
    answer = np.arange(count, dtype=np.int64) + snapshot.answers.num_rows
    answer[leads.source] = leads.target
    answered = np.zeros(count, bool)
    answered[leads.source] = True
    group_key = query_of
    for name in ("run", "policy", "step"):
        column = snapshot.thinkings[name].combine_chunks().dictionary_encode()
        codes = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64) + 1
        group_key = Partition.of(group_key).cell * (len(column.dictionary) + 1) + codes
    policy_group = Partition.of(group_key)
    cells = Partition.of(answer)
    policy_answer = Partition.of(policy_group.cell * max(len(cells.count), 1) + cells.cell)
    return Groups(Partition.of(query_of), cells, policy_group, policy_answer, answered, query_of)


def query_of_thinkings(snapshot: Snapshot) -> IntVector:
    """Position of each rollout's query in `snapshot.queries`, int64 [T]."""
    generates = snapshot.edges["generates"]
    query = np.zeros(snapshot.thinkings.num_rows, np.int64)
    query[generates.target] = generates.source
    return query


def answer_of_thinkings(snapshot: Snapshot) -> IntVector:
    """Position of each rollout's answer in `snapshot.answers`, int64 [T]; -1 without an answer."""
    answer = np.full(snapshot.thinkings.num_rows, -1)
    leads = snapshot.edges["leads_to"]
    answer[leads.source] = leads.target
    return answer


def less_group(table: FeatureTable, groups: Groups) -> FeatureTable:
    """Subtract the group's mean from each column; the names end in `-group`."""
    names = tuple(name + "-group" for name in table.names)
    return FeatureTable(names, (table.values - groups.query.mean(table.values)).astype(np.float32))


def over_answer(table: FeatureTable, groups: Groups) -> FeatureTable:
    """Mean over the rollouts with the same answer, less the group's mean; the names end in `@answer`."""
    names = tuple(name + "@answer" for name in table.names)
    values = groups.answer.mean(table.values) - groups.query.mean(table.values)
    return FeatureTable(names, values.astype(np.float32))


def share_logit(share: Array, size: Array) -> FloatVector:
    """Log odds of a share of `size` votes, smoothed by half a vote: log((v + 0.5) / (size - v + 0.5))."""
    votes = share * size
    return np.asarray(np.log((votes + 0.5) / (size - votes + 0.5)), np.float64)


def batches_of_distinct_queries(queries: Sequence[Hashable]) -> list[list[int]]:
    """Cut groups into batches that hold at most one group of each query, so that groups of a query cannot interact.

    Args:
        queries: query of each group.

    Returns:
        Positions of the groups in each batch: the first group of every query, then the second, and so on.

    Example:
        >>> batches_of_distinct_queries(["a", "a", "b"])
        [[0, 2], [1]]
    """
    batches: list[list[int]] = []
    count: dict[Hashable, int] = {}
    for position, query in enumerate(queries):
        batch = count.get(query, 0)
        count[query] = batch + 1
        if batch == len(batches):
            batches.append([])
        batches[batch].append(position)
    return batches
