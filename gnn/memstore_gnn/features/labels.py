"""What the memory's labels say about a rollout: the labels of similar queries and of similar thinkings.

Invariant: a query's own labels never reach its own rollouts (leave-own-query-out), in training as in scoring. A
feature that broke this would be perfect on labelled queries and worthless on the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from memstore.errors import InputError
from memstore.snapshot import Snapshot
from memstore.types import FloatMatrix, FloatVector, IntVector
from memstore_gnn.features.groups import Groups, groups_of, over_answer
from memstore_gnn.features.table import FeatureTable

NEIGHBOURS = 16
TEMPERATURE = 0.1
BLOCK = 4096
"""Rows of similarities that are in memory at once."""


@dataclass(frozen=True)
class LabelledNeighbours:
    """Labelled vectors, each with its label and the query it belongs to.

    Attributes:
        vectors: float32 [L, D].
        labels: float64 [L].
        owner: int64 [L], position of the query.
        prior: mean label, the answer where nothing is near.
    """

    vectors: FloatMatrix
    labels: FloatVector
    owner: IntVector
    prior: float

    @classmethod
    def of_queries(cls, snapshot: Snapshot, reward: FloatVector, groups: Groups) -> Self:
        """Labelled queries with the mean label of their rollouts."""
        known = np.isfinite(reward)
        total = np.bincount(groups.query_of[known], reward[known], snapshot.queries.num_rows)
        count = np.bincount(groups.query_of[known], minlength=snapshot.queries.num_rows)
        which = np.flatnonzero((count > 0) & snapshot.query_has_x)
        return cls(snapshot.query_x[which], total[which] / count[which], which, _mean(reward[known]))

    @classmethod
    def of_thinkings(cls, snapshot: Snapshot, reward: FloatVector, groups: Groups) -> Self:
        """Labelled rollouts."""
        which = np.flatnonzero(np.isfinite(reward) & snapshot.thinking_has_x)
        known = np.isfinite(reward)
        return cls(snapshot.thinking_x[which], reward[which], groups.query_of[which], _mean(reward[known]))

    def look_up(self, vectors: FloatMatrix, owner: IntVector, k: int = NEIGHBOURS) -> tuple[FloatVector, FloatVector]:
        """Mean label of the k most similar of *other* queries, softmax(cosine / 0.1), and their mean cosine.

        Args:
            vectors: float32 [N, D].
            owner: int64 [N], the query whose labels are to be left out; -1 for none.
        """
        label = np.full(len(vectors), self.prior)
        similarity = np.zeros(len(vectors))
        if not len(self.labels):
            return label, similarity
        for start in range(0, len(vectors), BLOCK):
            block = slice(start, start + BLOCK)
            cosine = vectors[block] @ self.vectors.T
            cosine[owner[block, None] == self.owner[None, :]] = -np.inf
            label[block], similarity[block] = self._weigh(cosine, k)
        return label, similarity

    def _weigh(self, cosine: FloatMatrix, k: int) -> tuple[FloatVector, FloatVector]:
        k = min(k, cosine.shape[1])
        best = np.argpartition(cosine, cosine.shape[1] - k, axis=1)[:, -k:]
        near = np.take_along_axis(cosine, best, axis=1).astype(np.float64)
        usable = np.isfinite(near)
        top = np.where(usable, near, -1e9).max(axis=1, keepdims=True)
        weight = np.where(usable, np.exp((np.where(usable, near, 0.0) - top) / TEMPERATURE), 0.0)
        total = weight.sum(axis=1)
        found = usable.any(axis=1)
        label = (weight * self.labels[best]).sum(axis=1) / np.where(found, total, 1.0)
        mean = np.where(usable, near, 0.0).sum(axis=1) / np.maximum(usable.sum(axis=1), 1)
        return np.where(found, label, self.prior), np.where(found, mean, 0.0)


def label_features(snapshot: Snapshot, reward: FloatVector, groups: Groups | None = None) -> FeatureTable:
    """Labels near each rollout, own query left out: float32 [T, 6].

    Args:
        reward: float64 [T], NaN where the label is hidden or unknown.

    Raises:
        InputError: `reward` has another length than the snapshot has rollouts.
    """
    if len(reward) != snapshot.thinkings.num_rows:
        raise InputError(f"{len(reward)} rewards do not fit a snapshot of {snapshot.thinkings.num_rows} rollouts.")
    groups = groups_of(snapshot) if groups is None else groups
    queries = LabelledNeighbours.of_queries(snapshot, reward, groups)
    positions = np.arange(snapshot.queries.num_rows)
    query_label, query_near = queries.look_up(snapshot.query_x, positions)
    thinkings = LabelledNeighbours.of_thinkings(snapshot, reward, groups)
    label, near = thinkings.look_up(snapshot.thinking_x, groups.query_of)
    table = FeatureTable.from_columns(
        {
            "near_query_label": query_label[groups.query_of],
            "near_query_cosine": query_near[groups.query_of],
            "near_thinking_label": label,
            "near_thinking_label-group": label - groups.query.mean(label),
            "near_thinking_cosine": near,
        },
        len(reward),
    )
    return table.concat(over_answer(table.select(["near_thinking_label"]), groups))


def _mean(labels: FloatVector) -> float:
    return float(labels.mean()) if len(labels) else 0.5
