"""Ground-truth rewards of a snapshot's rollouts."""

from __future__ import annotations

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import query_of_thinkings


def rewards_of(snapshot: Snapshot) -> FloatVector:
    """Ground-truth reward of each rollout, float64 [T]; NaN where a rollout has none."""
    return np.asarray(snapshot.thinkings["reward"].to_numpy(zero_copy_only=False), np.float64).copy()


def visible_rewards(snapshot: Snapshot, queries: BoolVector) -> FloatVector:
    """Ground-truth reward of the rollouts of some queries, float64 [T]; NaN for every other rollout.

    Args:
        queries: bool [Q], the queries whose labels are visible.
    """
    return np.where(queries[query_of_thinkings(snapshot)], rewards_of(snapshot), np.nan)
