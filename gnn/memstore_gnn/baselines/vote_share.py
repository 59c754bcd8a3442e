"""The share of the query's rollouts that gave the same answer; learns nothing and needs no label."""

from __future__ import annotations

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import groups_of


class VoteShare:
    """Votes over the group's size; 0 for a rollout without an answer."""

    name = "vote_share"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        return groups_of(snapshot).share
