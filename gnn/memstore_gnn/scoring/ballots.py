"""Ballots of a snapshot: who gave which answer to which query, and how it was judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.verdicts import ONE_RIGHT_VALUE
from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import answer_of_thinkings, query_of_thinkings
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.features.dawid_skene import Ballots


class Voter(NamedTuple):
    """A policy at a step, in a dataset."""

    dataset: str
    policy: str | None
    step: int | None


class DatasetBallots(NamedTuple):
    """The votes on the queries of a dataset.

    Attributes:
        voters: policies of the ballots.
        rows: int64 [N], rows of the snapshot's rollouts, in the order of the ballots.
        queries, answers: int64 [Q] and [A], rows of the snapshot's tables of the queries and answers of the ballots.
    """

    dataset: str
    ballots: Ballots
    voters: list[Voter]
    rows: IntVector
    queries: IntVector
    answers: IntVector


def ballots_by_dataset(snapshot: Snapshot) -> Iterator[DatasetBallots]:
    """The votes on each dataset's queries whose answers have one right value, by the name of the dataset."""
    counted, datasets = one_right_value(snapshot), first_datasets(snapshot)
    answer, query_of = answer_of_thinkings(snapshot), query_of_thinkings(snapshot)
    for dataset in sorted(set(datasets[query_of[counted]])):
        rows = counted[datasets[query_of[counted]] == dataset]
        first, policy = _policies(snapshot, rows)
        columns = (snapshot.thinkings[name].take(pa.array(rows[first])).to_pylist() for name in ("policy", "step"))
        voters = [Voter(dataset, *one) for one in zip(*columns, strict=True)]
        queries, cell = np.unique(query_of[rows], return_inverse=True)
        given = answer[rows]
        answers, place = np.unique(given[given >= 0], return_inverse=True)
        local = np.full(len(rows), -1)
        local[given >= 0] = place
        of_answer = np.zeros(len(answers), np.int64)
        of_answer[place] = cell[given >= 0]
        ballots = Ballots(policy, local, cell * len(voters) + policy, of_answer)
        yield DatasetBallots(dataset, ballots, voters, rows, queries, answers)


def _policies(snapshot: Snapshot, rows: IntVector) -> tuple[IntVector, IntVector]:
    """The first position of each policy at a step, int64 [P], and the policy of each row, int64 [N]."""
    columns = (snapshot.thinkings[name].take(pa.array(rows)) for name in ("policy", "step"))
    policy, step = (pc.index_in(column, value_set=pc.unique(column)).to_numpy() for column in columns)
    _, first, voter = np.unique(policy * (len(rows) + 1) + step, return_index=True, return_inverse=True)
    return first, voter


def verdict_of_answers(snapshot: Snapshot, verdicts: Verdicts) -> FloatVector:
    """The verdict on each answer, float64 [A], NaN without one."""
    judged = [verdicts.answers.get(name) for name in snapshot.answers["id"].to_pylist()]
    return np.array([np.nan if one is None else one.value for one in judged], np.float64)


def one_right_value(snapshot: Snapshot) -> IntVector:
    """Rows of the rollouts in domains whose answers have one right value."""
    one_value = np.isin(np.array(snapshot.queries["domain"].to_pylist(), object), sorted(ONE_RIGHT_VALUE))
    return np.flatnonzero(one_value[query_of_thinkings(snapshot)])
