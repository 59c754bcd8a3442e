"""What a predictor is: labels of some queries in, a probability for every rollout out.

A predictor gets a snapshot without any label, reference answer or prediction in it, and a reward vector with NaN
wherever it may not look. It is to be deterministic in `seed`.
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
        """Probability that each rollout is right, float64 [T] in 0..1, finite.

        Args:
            snapshot: nothing in it gives a label away.
            reward: float64 [T], NaN for every rollout outside `train` and `select`, and where no label is known.
            train: bool [Q], queries to learn from.
            select: bool [Q], queries to choose and calibrate on.
            seed: of everything random.
        """
        ...


def labelled_rollouts(snapshot: Snapshot, reward: FloatVector, queries: BoolVector) -> BoolVector:
    """bool [T]: rollouts of these queries whose label is known."""
    return np.asarray(queries[query_of_thinkings(snapshot)] & np.isfinite(reward), bool)
