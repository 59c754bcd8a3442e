"""Ours: the regression shrunk to skilled votes, corrected by attention over the group and the labelled memory."""

from __future__ import annotations

import numpy as np
import torch

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.models.map_logistic import Shrunken
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.training.train import fit


class Attention:
    """A reward model as `memstore_gnn.training.train` makes it.

    Where the visible labels are of one class or of one query, training refuses; in a table of budgets such a cell
    is the model's base, which needs no label, from `prior` if there is one. A prior that was learned on the rollouts
    that are measured would be no honest one, so the package's own is not taken unasked.
    """

    name = "attention"

    def __init__(
        self,
        settings: TrainSettings | None = None,
        device: str | torch.device | None = None,
        prior: SharedPrior | None = None,
    ) -> None:
        self._settings = settings
        self._device = device
        self._prior = prior

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        known = np.isfinite(reward)
        queries = np.unique(query_of_thinkings(snapshot)[known])
        if len(queries) < 2 or len(np.unique(reward[known] > 0.5)) < 2:
            return Shrunken(self._prior).fit_predict(snapshot, reward, train, select, seed)
        model = fit(snapshot, reward, seed=seed, settings=self._settings, device=self._device)
        return model.predict(snapshot, model.recall(snapshot, reward))
