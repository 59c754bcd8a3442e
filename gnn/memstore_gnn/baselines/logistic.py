"""Baselines on structure and label features: logistic regression and gradient boosting."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.data.groups import groups_of
from memstore_gnn.data.predictor import labelled_rollouts
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.labels import label_features
from memstore_gnn.features.structure import structure_features


class OnStructure:
    """Predicts with a scikit-learn classifier on structure and label features, fitted to train and select."""

    name: ClassVar[str]

    def classifier(self, seed: int) -> Any:
        """Create an unfitted scikit-learn classifier."""
        raise NotImplementedError

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        groups = groups_of(snapshot)
        table = structure_features(snapshot, groups).concat(label_features(snapshot, reward, groups))
        known = labelled_rollouts(snapshot, reward, train | select)
        if len(np.unique(reward[known] > 0.5)) < 2:
            return Constant().fit_predict(snapshot, reward, train, select, seed)
        return self._fit(table, reward, known, seed)

    def _fit(self, table: FeatureTable, reward: FloatVector, known: BoolVector, seed: int) -> FloatVector:
        model = self.classifier(seed)
        model.fit(table.values[known], reward[known] > 0.5)
        return np.asarray(model.predict_proba(table.values)[:, 1], np.float64)


class Logistic(OnStructure):
    """Logistic regression on standardised features, with the regularisation C = 0.1."""

    name = "logistic"

    def classifier(self, seed: int) -> Any:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))


class Boosting(OnStructure):
    """Histogram gradient boosting with few, small trees, because labelled queries are few independent examples."""

    name = "boosting"

    def classifier(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=100,
            learning_rate=0.05,
            max_leaf_nodes=8,
            min_samples_leaf=20,
            l2_regularization=1.0,
            random_state=seed,
        )
