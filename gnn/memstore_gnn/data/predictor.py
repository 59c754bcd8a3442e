"""Predictor protocol: labels of some queries in, a probability for every rollout out.

A predictor gets a snapshot without labels, reference answers and predictions, and a reward vector that is NaN for
every hidden label. It must be deterministic given `seed`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import query_of_thinkings


class Predictor(Protocol):
    """Predicts the reward of every rollout of a snapshot."""

    @property
    def name(self) -> str:
        """The name in tables, e.g. `vote_share`."""
        ...

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        """Probability that each rollout is correct, float64 [T] in 0..1, finite.

        Args:
            snapshot: without labels, reference answers and predictions.
            reward: float64 [T], NaN for every rollout outside `train` and `select` and for rollouts without a label.
            train: bool [Q], queries to learn from.
            select: bool [Q], queries to choose and calibrate on.
            seed: of all random choices.
        """
        ...


def labelled_rollouts(snapshot: Snapshot, reward: FloatVector, queries: BoolVector) -> BoolVector:
    """Rollouts of these queries whose label is known, bool [T]."""
    return np.asarray(queries[query_of_thinkings(snapshot)] & np.isfinite(reward), bool)
