"""The mean label, for everyone: what a predictor must beat to be one."""

from __future__ import annotations

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector


class Constant:
    """The mean of the visible labels; 0.5 without any."""

    name = "constant"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        known = reward[np.isfinite(reward)]
        return np.full(len(reward), known.mean() if len(known) else 0.5)
