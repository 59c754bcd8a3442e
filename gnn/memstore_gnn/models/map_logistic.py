"""MAP logistic regression: the base of a reward model (`memstore_gnn.models.base`) as a predictor of its own.

Unlike a reward model it also predicts without any label, and it can start from a prior of other data sets.
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
    """Logits of all rollouts, and out-of-fold logits of the labelled ones (NaN elsewhere); float64 [T] both."""

    logit: FloatVector
    held_out: FloatVector


@dataclass(frozen=True)
class MapLogistic:
    """Predictor that fits the base to the visible labels.

    Attributes:
        prior: prior of other data sets; None shrinks to the votes alone.
        name: name of the predictor in tables.
    """

    prior: SharedPrior | None = None
    name: str = "shrunken"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        """See `memstore_gnn.data.predictor.Predictor`; train and select are both fitted to."""
        known = labelled_rollouts(snapshot, reward, train | select)
        return sigmoid(self.fit(snapshot, np.where(known, reward, np.nan), seed).logit)

    def fit(self, snapshot: Snapshot, reward: FloatVector, seed: int) -> Fitted:
        """Fit to the labels in `reward` (float64 [T], NaN elsewhere)."""
        free = label_free(snapshot)
        part = labelled_part(snapshot, reward, free.reliability)
        own = read_target(part.snapshot, part)
        scale = Scale.of([free.table])
        base, own_held_out, *_ = fit_base(scale, own.free, own.near, own.strata, part.reward, seed, self.prior)
        target = read_target(snapshot, part)
        held_out = np.full(len(reward), np.nan)
        held_out[np.isfinite(reward)] = own_held_out
        return Fitted(base.logit(target.free, target.near, target.strata), held_out)
