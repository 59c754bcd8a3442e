"""Gaps of the residual in the groups of a memory (`memstore_gnn.monitoring.residual_gap`)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import batches_of_distinct_queries, groups_of
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.features.program_votes import behaviour_of
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.monitoring.residual_gap import GroupGap, group_gap


class QueryGap(NamedTuple):
    """The gap of a group, and a number for its query."""

    query: int
    gap: GroupGap


def residual_gaps(model: RewardModel, snapshot: Snapshot, rows: BoolVector, probability: FloatVector) -> list[QueryGap]:
    """Return the gap of each group among some rollouts of a memory, in the same order for every model.

    A group is what one policy sampled together for a query, in one run and at one step, as a trainer sends it.

    Args:
        rows: bool [T], labelled rollouts.
        probability: float64 [rows], their probabilities without labels of their queries.
    """
    chosen = some_rollouts(snapshot, rows)
    groups, truth = groups_of(chosen), rewards_of(chosen)
    order = np.argsort(groups.policy_group.cell, kind="stable")
    members = np.split(order, np.cumsum(groups.policy_group.count)[:-1])
    query = [int(groups.query_of[own[0]]) for own in members]
    found: dict[int, QueryGap] = {}
    for batch in batches_of_distinct_queries(query):
        by_votes, vote = _votes(model, chosen, np.concatenate([members[number] for number in batch]))
        for number in batch:
            own = members[number]
            gap = group_gap(probability[own], by_votes[own], vote[own], truth[own])
            found[number] = QueryGap(query[number], gap)
    return [found[number] for number in range(len(members))]


def _votes(model: RewardModel, snapshot: Snapshot, rows: IntVector) -> tuple[FloatVector, IntVector]:
    """Probability by the votes, and the vote, of `rows`: at most one group of a query. [T], undefined elsewhere."""
    inside = np.zeros(snapshot.thinkings.num_rows, np.bool_)
    inside[rows] = True
    part = some_rollouts(snapshot, inside)
    alike = behaviour_of(part, groups_of(part)).groups
    by_votes, vote = np.full(len(inside), np.nan), np.full(len(inside), -1, np.int64)
    by_votes[inside], vote[inside] = model.vote_model.probability(alike), alike.answer.cell
    return by_votes, vote
