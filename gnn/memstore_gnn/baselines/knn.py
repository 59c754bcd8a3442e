"""Nearest-neighbour baseline: the labels of similar thinkings and of similar queries."""

from __future__ import annotations

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import groups_of
from memstore_gnn.features.labels import label_features


class NearestNeighbours:
    r"""Predicts the mean of two softmax-weighted label means over the 16 nearest labelled nodes of other queries.

    .. math::
        p = \tfrac{1}{2} \sum_{j \in N(\mathrm{query})} a_j y_j + \tfrac{1}{2} \sum_{j \in N(\mathrm{thinking})} a_j
        y_j, \qquad a = \mathrm{softmax}(\cos / 0.1)
    """

    name = "knn"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        near = label_features(snapshot, reward, groups_of(snapshot)).select(["near_query_label", "near_thinking_label"])
        return np.clip(near.values.mean(axis=1), 0.0, 1.0).astype(np.float64)
