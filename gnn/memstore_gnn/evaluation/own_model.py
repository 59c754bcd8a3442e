"""Predictor `memstore`: the reward model of this package, fitted to the visible labels."""

from __future__ import annotations

import numpy as np
import torch

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.models.map_logistic import MapLogistic
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.training.fit import fit


class OwnModel:
    """A reward model as `memstore_gnn.training.fit` makes it, on all rollouts of a query as one group.

    An evaluation hides who wrote a rollout, so no votes of other policies count, and no network is trained for them.

    Training raises if the visible labels have one class or belong to one query. In a table of budgets such a cell is
    filled by the model's base, which needs no label. The shipped prior is not used by default, because it was fitted to
    rollouts that an evaluation may measure.

    Args:
        settings: settings of the training.
        device: `cpu`, `cuda` or a torch device; None takes a GPU if there is one.
        prior: prior of the base if training is not possible; None shrinks it to the votes.
    """

    name = "memstore"

    def __init__(
        self,
        settings: TrainSettings | None = None,
        device: str | torch.device | None = None,
        prior: SharedPrior | None = None,
    ) -> None:
        self._settings = settings or TrainSettings(members=0)
        self._device = device
        self._prior = prior

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        known = np.isfinite(reward)
        queries = np.unique(query_of_thinkings(snapshot)[known])
        if len(queries) < 2 or len(np.unique(reward[known] > 0.5)) < 2:
            return MapLogistic(self._prior).fit_predict(snapshot, reward, train, select, seed)
        model = fit(snapshot, reward, seed=seed, settings=self._settings, device=self._device)
        return model.predict(snapshot, model.label_context(snapshot, reward))
