"""The labels of similar thinkings and of similar queries, and nothing else."""

from __future__ import annotations

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import groups_of
from memstore_gnn.features.labels import label_features


class NearestNeighbours:
    """Mean of two weighted means: the 16 most similar labelled thinkings and the 16 most similar labelled queries."""

    name = "knn"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        near = label_features(snapshot, reward, groups_of(snapshot)).select(["near_query_label", "near_thinking_label"])
        return np.clip(near.values.mean(axis=1), 0.0, 1.0).astype(np.float64)
