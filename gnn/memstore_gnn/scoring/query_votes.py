"""The votes on some queries as arrays: stored ones, and those of groups of new rollouts, which may be stored too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.snapshots.snapshot import Snapshot
from memstore.types import IntVector
from memstore_gnn.data.groups import answer_of_thinkings
from memstore_gnn.data.separate import ranges

VOTER, COPY = ("policy", "step"), ("sample_index", "vector_key")
"""Columns of a rollout that name its voter; with those of `COPY`, equal for two copies of a rollout of a query."""


@dataclass(frozen=True)
class Rollouts:
    """Some rollouts of a snapshot.

    Attributes:
        rows: int64 [N], their rows.
        query: int64 [N], 0..Q-1, their queries.
        answer: int64 [N], rows of `snapshot.answers`, -1 without an answer.
    """

    snapshot: Snapshot
    rows: IntVector
    query: IntVector
    answer: IntVector

    def column(self, name: str) -> pa.ChunkedArray:
        """A column of the thinkings, or the ids of the answers."""
        if name == "answer":
            return self.snapshot.answers["id"].take(pa.array(self.answer, mask=self.answer < 0))
        return self.snapshot.thinkings[name].take(pa.array(self.rows))

    @classmethod
    def of_queries(cls, snapshot: Snapshot, rows: IntVector, query: IntVector) -> Rollouts:
        """Rollouts (rows) whose queries are known."""
        return cls(snapshot, rows, query, answer_of_thinkings(snapshot)[rows])


@dataclass(frozen=True)
class QueryVotes:
    """S stored votes and, after them, F votes of new rollouts, on Q queries.

    Attributes:
        group: int64 [F], 0..G-1, the group of each new rollout.
        query: int64 [S + F], 0..Q-1, ascending among the stored ones.
        cell: int64 [S + F], 0..C-1, the votes of one policy at one step on one query.
        answer: int64 [S + F], 0..A-1, -1 without an answer.
        own_group, own: int64 [E] each: the stored votes that are left out for a group, because they are the group's
            own. The same rollout has another id if its run has another name, as that of a file can; then it has the
            same policy, step, sample index and text.
        first: int64 [C], a vote of each cell.
        policy, step: [C], those of each cell.
    """

    group: IntVector
    query: IntVector
    cell: IntVector
    answer: IntVector
    own_group: IntVector
    own: IntVector
    first: IntVector
    policy: list[str | None]
    step: list[int | None]

    @property
    def stored(self) -> int:
        """S."""
        return len(self.query) - len(self.group)

    @property
    def query_of_group(self) -> IntVector:
        """Query of each group, int64 [G]."""
        found = np.zeros(int(self.group.max(initial=-1)) + 1, np.int64)
        found[self.group] = self.query[self.stored :]
        return found


def read_votes(stored: Rollouts, new: Rollouts, group: IntVector) -> QueryVotes:
    """Number policies, steps, answers and texts.

    Args:
        stored: ordered by query.
        group: int64 [F], 0..G-1.
    """
    names = (*VOTER, *COPY, "id", "answer")
    columns = {name: _united(stored.column(name), new.column(name)) for name in names}
    number = {name: _numbers(column) for name, column in columns.items()}
    query = np.concatenate((stored.query, new.query))
    cell = _numbered(query, *(number[name] for name in VOTER))
    _, first = np.unique(cell, return_index=True)
    copy = _numbered(cell, *(number[name] for name in COPY))
    policy, step = (columns[name].take(pa.array(first)).to_pylist() for name in VOTER)
    own = _own(len(stored.rows), group, copy, number["id"])
    return QueryVotes(group, query, cell, number["answer"], *own, first, policy, step)


def _united(stored: pa.ChunkedArray, new: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([*stored.chunks, *new.cast(stored.type).chunks], stored.type)


def _numbers(column: pa.ChunkedArray) -> IntVector:
    """Equal numbers for equal values, -1 for null."""
    found = column.combine_chunks().dictionary_encode().indices
    return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)


def _numbered(*columns: IntVector) -> IntVector:
    """Number the combinations of numbers that are at least -1, int64 [N], 0 and up."""
    cell = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        _, cell = np.unique(cell * (int(column.max(initial=0)) + 2) + column + 1, return_inverse=True)
    return np.asarray(cell, np.int64)


def _own(stored: int, group: IntVector, *keys: IntVector) -> tuple[IntVector, IntVector]:
    """Pairs of a group and a stored vote that have an equal number in one of the keys (int64 [S + F])."""
    pairs = []
    for key in keys:
        order = np.argsort(key[:stored], kind="stable")
        of, place = ranges(key[:stored][order], key[stored:])
        pairs.append(group[of] * stored + order[place])
    if not stored:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    found = np.unique(np.concatenate(pairs))
    return found // stored, found % stored
