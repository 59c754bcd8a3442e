"""The base of a reward model by itself: a regression shrunk to skilled votes, see `memstore_gnn.models.base`.

Unlike a reward model it also speaks without any label, and may start from a prior of other sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.predictor import labelled_rollouts
from memstore_gnn.features.assemble import label_free
from memstore_gnn.models.base import fit_base
from memstore_gnn.models.calibration import sigmoid
from memstore_gnn.models.design import Scale
from memstore_gnn.models.inputs import labelled_part, read_target
from memstore_gnn.models.prior import SharedPrior


class Fitted(NamedTuple):
    """Logits float64 [T] of all rollouts, and of the labelled ones when fitted without their query; NaN elsewhere."""

    logit: FloatVector
    held_out: FloatVector


@dataclass(frozen=True)
class Shrunken:
    """The predictor. `prior` None: shrink to the votes alone."""

    prior: SharedPrior | None = None
    name: str = "shrunken"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        known = labelled_rollouts(snapshot, reward, train | select)
        return sigmoid(self.fit(snapshot, np.where(known, reward, np.nan), seed).logit)

    def fit(self, snapshot: Snapshot, reward: FloatVector, seed: int) -> Fitted:
        """Fit to the labels in `reward` (float64 [T], NaN elsewhere)."""
        free = label_free(snapshot)
        part = labelled_part(snapshot, reward, free.reliability)
        own = read_target(part.snapshot, part)
        scale = Scale.of([free.table])
        base, own_held_out = fit_base(scale, own.free, own.near, own.places, part.reward, seed, self.prior)
        target = read_target(snapshot, part)
        held_out = np.full(len(reward), np.nan)
        held_out[np.isfinite(reward)] = own_held_out
        return Fitted(base.logit(target.free, target.near, target.places), held_out)
