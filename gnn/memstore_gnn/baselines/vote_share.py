"""Vote share (self-consistency): the share of a query's rollouts with the same answer; needs no label."""

from __future__ import annotations

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import groups_of


class VoteShare:
    """Predicts votes divided by group size; 0 for a rollout without an answer."""

    name = "vote_share"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        return groups_of(snapshot).share
