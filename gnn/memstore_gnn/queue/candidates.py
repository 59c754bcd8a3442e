"""The queries of a memory that can still be labelled, with their answers.

A query is open if one of its answers has no label yet. A right label closes it where a query has one right answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import answer_of_thinkings, query_of_thinkings
from memstore_gnn.data.labels import rewards_of


@dataclass(frozen=True)
class Candidates:
    """The answers of Q queries as N cells, one for each answer of a query and one for each rollout without an answer.

    Attributes:
        query: int64 [N], position of the cell's query.
        answer: int64 [N], position of its answer; -1 for a rollout without one.
        rollouts: int64 [N], rollouts of the cell.
        p: float64 [N], probability that the answer is right; the label's side if there is a label.
        judged: bool [N], the answer has a label.
        size: int64 [Q], rollouts of each query.
        open: bool [Q], the query can be labelled.
        labelled: bool [Q], the query has a label.
        one_right: bool [Q], the query has one right answer.
    """

    query: IntVector
    answer: IntVector
    rollouts: IntVector
    p: FloatVector
    judged: BoolVector
    size: IntVector
    open: BoolVector
    labelled: BoolVector
    one_right: BoolVector

    @property
    def share(self) -> FloatVector:
        """Share of the query's rollouts in each cell, float64 [N]."""
        return np.asarray(self.rollouts / self.size[self.query], np.float64)

    @property
    def top_share(self) -> FloatVector:
        """Share of the most frequent answer of each query, float64 [Q]; 0 without an answer."""
        top = np.zeros(len(self.size))
        answered = self.answer >= 0
        np.maximum.at(top, self.query[answered], self.share[answered])
        return top

    def cells_of(self, query: int) -> IntVector:
        """Answers of a query, the most frequent first."""
        first, last = np.searchsorted(self.query, [query, query + 1])
        cells = np.arange(first, last)[self.answer[first:last] >= 0]
        return cells[np.lexsort((self.answer[cells], -self.rollouts[cells]))]


def candidates(snapshot: Snapshot, probability: FloatVector | None = None) -> Candidates:
    """Find the open queries of a snapshot.

    Args:
        probability: float64 [T], probability that each rollout is right. None estimates it from the votes: of n
            rollouts that are not judged, n_a give an answer, which is right with the probability n_a / (n + 1).
    """
    query_of, answer_of, reward = query_of_thinkings(snapshot), answer_of_thinkings(snapshot), rewards_of(snapshot)
    total, queries = len(query_of), snapshot.queries.num_rows
    alone = np.where(answer_of >= 0, answer_of, snapshot.answers.num_rows + np.arange(total))
    # Answers belong to one query each, so the order by query and answer is one of cells.
    order = np.lexsort((alone, query_of))
    starts = np.flatnonzero(np.diff(alone[order], prepend=-1)) if total else np.empty(0, np.int64)
    cell = np.empty(total, np.int64)
    cell[order] = np.cumsum(np.isin(np.arange(total), starts)) - 1
    count, first = len(starts), order[starts]
    query, answer = query_of[first], answer_of[first]
    rollouts = np.bincount(cell, minlength=count)
    known = np.isfinite(reward)
    labels = np.bincount(cell[known], minlength=count)
    mean = np.bincount(cell[known], reward[known], count) / np.maximum(labels, 1)
    judged, right = labels > 0, np.zeros(queries, np.bool_)
    right[query[judged & (mean > RIGHT)]] = True
    one_right = np.isin(np.array(snapshot.queries["domain"].to_pylist(), object), sorted(ONE_RIGHT_VALUE))
    open_, labelled = np.zeros(queries, np.bool_), np.zeros(queries, np.bool_)
    open_[query[(answer >= 0) & ~judged]] = True
    labelled[query[judged]] = True
    if probability is None:
        free = np.bincount(query[~judged], rollouts[~judged], queries)
        p = np.where(answer >= 0, rollouts / (free[query] + 1), 0.0)
    else:
        p = np.bincount(cell, probability, count) / rollouts
    p = np.where(judged, (mean > RIGHT).astype(np.float64), p)
    size = np.bincount(query_of, minlength=queries)
    return Candidates(
        query, answer, rollouts, p, judged, size, open_ & ~(one_right & right), labelled, np.asarray(one_right)
    )
