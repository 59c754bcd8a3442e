"""Constant baseline: the mean label for every rollout."""

from __future__ import annotations

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector


class Constant:
    """Predicts the mean of the visible labels, or 0.5 without labels."""

    name = "constant"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        known = reward[np.isfinite(reward)]
        return np.full(len(reward), known.mean() if len(known) else 0.5)
