"""Label features: the labels of similar queries and of similar thinkings in the memory.

Invariant: a query's labels never reach its own rollouts (leave-own-query-out), in training and in scoring. A feature
that violated this would be perfect on labelled queries and useless on all others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import Groups, over_answer
from memstore_gnn.data.neighbours import TEMPERATURE, Labelled, Rows, nearest_labelled
from memstore_gnn.data.table import FeatureTable

__all__ = [
    "NEIGHBOURS",
    "TEMPERATURE",
    "LabelsNear",
    "label_features",
    "label_table",
    "labelled_queries",
    "labelled_thinkings",
    "rows_of",
]

NEIGHBOURS = 16
"""Labelled neighbours of each query and of each thinking."""


class LabelsNear(NamedTuple):
    """Mean label and mean cosine of the neighbours of each row, float64 [N] both."""

    label: FloatVector
    cosine: FloatVector


def labelled_queries(snapshot: Snapshot, reward: FloatVector, groups: Groups) -> Labelled:
    """Queries that have a label and a vector, with the mean label of their; pass one a rollout"""
    known = np.isfinite(reward)
    total = np.bincount(groups.query_of[known], reward[known], snapshot.queries.num_rows)
    count = np.bincount(groups.query_of[known], minlength=snapshot.queries.num_rows)
    which = np.flatnonzero((count > 0) & snapshot.query_has_x)
    return Labelled(snapshot.query_x[which], total[which] / count[which], which, which)


def labelled_thinkings(snapshot: Snapshot, reward: FloatVector, groups: Groups) -> Labelled:
    """Rollouts that have a label and a vector."""
    which = np.flatnonzero(np.isfinite(reward) & snapshot.thinking_has_x)
    every = len(which) == len(reward)
    vectors = snapshot.thinking_x if every else snapshot.thinking_x[which]
    return Labelled(vectors, reward[which], groups.query_of[which], which)


def label_features(snapshot: Snapshot, reward: FloatVector, groups: Groups) -> FeatureTable:
    """Labels of the neighbours of each rollout, without its own query: float32 [T, 6].

    Args:
        reward: float64 [T], NaN where the label is hidden or unknown.

    Raises:
        InputError: `reward` has another length than the snapshot has rollouts.
    """
    if len(reward) != snapshot.thinkings.num_rows:
        raise InputError(
            f"{len(reward)} rewards do not fit a snapshot of {snapshot.thinkings.num_rows}; pass one a rollout"
        )
    queries = labelled_queries(snapshot, reward, groups)
    thinkings = labelled_thinkings(snapshot, reward, groups)
    near = nearest_labelled(
        queries, thinkings, rows_of(snapshot, groups, np.arange(snapshot.queries.num_rows)), NEIGHBOURS
    )
    return label_table(
        groups, LabelsNear(*queries.mean_label(near.query)), LabelsNear(*thinkings.mean_label(near.thinking))
    )


def rows_of(snapshot: Snapshot, groups: Groups, query: IntVector) -> Rows:
    """Rows of a snapshot to look up; `query` int64 [Q] is the query to leave out, -1 for none."""
    return Rows(
        snapshot.query_x, snapshot.query_has_x, query, snapshot.thinking_x, snapshot.thinking_has_x, groups.query_of
    )


def label_table(groups: Groups, query: LabelsNear, thinking: LabelsNear) -> FeatureTable:
    """Build the features from the neighbours of each query [Q] and each thinking [T]."""
    table = FeatureTable.from_columns(
        {
            "near_query_label": query.label[groups.query_of],
            "near_query_cosine": query.cosine[groups.query_of],
            "near_thinking_label": thinking.label,
            "near_thinking_label-group": thinking.label - groups.query.mean(thinking.label),
            "near_thinking_cosine": thinking.cosine,
        },
        len(groups.query_of),
    )
    return table.concat(over_answer(table.select(["near_thinking_label"]), groups))
