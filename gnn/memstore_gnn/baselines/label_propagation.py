"""Label propagation baseline (Zhu and Ghahramani 2002) over similar thinkings and shared answers.

The graph joins each rollout to the k most similar thinkings of other queries and to the rollouts that share its answer.
Labelled rollouts keep their label; the others repeatedly take the weighted mean of their neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatMatrix, FloatVector, IntVector
from memstore_gnn.data.groups import Array, groups_of
from memstore_gnn.data.neighbours import TEMPERATURE, Labelled
from memstore_gnn.data.predictor import labelled_rollouts
from memstore_gnn.features.labels import NEIGHBOURS

ROUNDS = 30
"""Updates of every rollout."""
PRIOR_WEIGHT = 0.05
"""Weight of the mean label next to a node's neighbours (total weight up to 2); the value of nodes far from labels."""


class LabelPropagation:
    r"""Predicts by propagating labels; labelled rollouts keep theirs.

    .. math::
        y_i \leftarrow \frac{\sum_j w_{ij} y_j + \frac{1}{|q_i|} \sum_{j \sim i} y_j + \lambda \bar{y}}
        {\sum_j w_{ij} + \frac{1}{|q_i|} |\{j \sim i\}| + \lambda}

    with softmax weights :math:`w` over similar thinkings, rollouts :math:`j \sim i` of the same query and answer, group
    size :math:`|q_i|` and the weight :math:`\lambda` of the mean label.
    """

    name = "label_propagation"

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        groups = groups_of(snapshot)
        known = labelled_rollouts(snapshot, reward, train | select)
        mean = float(reward[known].mean()) if known.any() else 0.5
        near = _similar(snapshot.thinking_x, groups.query_of)
        size = groups.query.size
        agreeing = (groups.answer.size - 1) / size
        weight = near.weight.sum(axis=1) + agreeing + PRIOR_WEIGHT
        value = np.where(known, reward, mean)
        for _ in range(ROUNDS):
            same = (groups.answer.sums(value)[groups.answer.cell] - value) / size
            flow = (near.weight * value[near.position]).sum(axis=1) + same + PRIOR_WEIGHT * mean
            value = np.where(known, reward, flow / weight)
        return np.clip(value, 0.0, 1.0)


class _Near(NamedTuple):
    """Neighbours of each thinking: positions int64 [T, k] and weights float64 [T, k], which sum to 1 or are all 0."""

    position: IntVector
    weight: Array


def _similar(x: FloatMatrix, query: IntVector) -> _Near:
    rows = np.arange(len(x))
    near = Labelled(x, np.zeros(len(x)), query, rows).nearest(x, query, np.ones(len(x), np.bool_), NEIGHBOURS)
    raw = np.where(near.present, np.exp((near.cosine.astype(np.float64) - 1.0) / TEMPERATURE), 0.0)
    return _Near(near.position, raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-12))
