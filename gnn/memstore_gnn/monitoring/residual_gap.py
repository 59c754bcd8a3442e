r"""Gap of the residual: whether a predicted reward can teach a policy what its own votes do not say.

With the reward model's probability p of a rollout and the probability v by the votes of its group alone
(`memstore_gnn.models.vote_model`), the gap of a group that has right rollouts R and wrong ones W is

.. math::
    g = \frac{1}{|R|} \sum_{i \in R} (p_i - v_i) - \frac{1}{|W|} \sum_{i \in W} (p_i - v_i)

A reward that follows the votes hardens the majority of the policy. Where the majority is wrong, only a positive gap
moves the policy to the right answer, so the groups whose majority is wrong and that hold a right rollout show whether
a memory helps.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from memstore.types import FloatVector, IntVector
from memstore_gnn.metrics import auc

LEVEL = 0.9
"""Probability that an interval covers the mean gap."""


class GroupGap(NamedTuple):
    """How one group's predictions separate right from wrong rollouts; NaN if all are right or all wrong."""

    gap: float
    majority_wrong: bool
    """Whether every most frequent answer is wrong and another rollout is right."""
    auc: float
    """Area under the ROC curve of p within the group."""

    @property
    def mixed(self) -> bool:
        """Whether the group has right and wrong rollouts."""
        return not math.isnan(self.gap)


def group_gap(probability: FloatVector, by_votes: FloatVector, vote: IntVector, truth: FloatVector) -> GroupGap:
    """Return the gap of one group.

    Args:
        probability: float64 [N], p.
        by_votes: float64 [N], v.
        vote: int64 [N], equal for rollouts that vote alike (`memstore_gnn.features.assemble.group_features`).
        truth: float64 [N], the true rewards; a rollout is right above 0.5.
    """
    right = truth > 0.5
    if right.all() or not right.any():
        return GroupGap(math.nan, False, math.nan)
    residual = probability - by_votes
    _, cell, votes = np.unique(vote, return_inverse=True, return_counts=True)
    top = (votes == votes.max())[cell.ravel()]
    gap = float(residual[right].mean() - residual[~right].mean())
    return GroupGap(gap, not bool((top & right).any()), auc(probability, truth))


class Interval(NamedTuple):
    """Mean gap of some groups, with its interval; error and bounds are NaN with fewer than two queries."""

    mean: float
    low: float
    high: float
    error: float
    """Standard error of the mean."""
    groups: int
    queries: int


def interval(gaps: FloatVector, query: NDArray[np.int64] | NDArray[np.object_], level: float = LEVEL) -> Interval:
    r"""Return the mean of gaps with its interval by Student's t, clustered by query.

    The groups of a query are not independent, so the variance of the mean is that of the sums over K queries,

    .. math::
        \frac{K}{K - 1} \frac{1}{n^2} \sum_k \Big( \sum_{i \in k} (g_i - \bar g) \Big)^2

    Args:
        gaps: float64 [n], gaps of mixed groups.
        query: [n], the query of each group.
        level: probability that the interval covers the mean.
    """
    if not len(gaps):
        return Interval(math.nan, math.nan, math.nan, math.nan, 0, 0)
    mean = float(gaps.mean())
    _, cell = np.unique(query, return_inverse=True)
    sums = np.bincount(cell.ravel(), gaps - mean)
    queries = len(sums)
    if queries < 2:
        return Interval(mean, math.nan, math.nan, math.nan, len(gaps), queries)
    error = math.sqrt(float(sums @ sums) * queries / (queries - 1)) / len(gaps)
    half = float(stdtrit(queries - 1, 0.5 + level / 2)) * error
    return Interval(mean, mean - half, mean + half, error, len(gaps), queries)
