r"""Vote model: the probability that a rollout is right by the votes of its group alone.

.. math::
    v = \sigma(w_0 + w_1 \, \mathrm{share\_logit} + x^\top w)

with the log odds of the answer's share and the few vote features in `FEATURES`. It is fitted to the labels that the
reward model is fitted to, and kept with it. The difference between the reward model's probability and :math:`v` is what
the model knows beyond the votes (`memstore_rl.rewards.shaping`). Without labels it is fitted to the probabilities of
the prior for the memory's rollouts, so that the difference is what the prior reads beyond the votes.

It has eight coefficients, so it needs no out-of-fold predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import Groups
from memstore_gnn.features.structure import vote_columns
from memstore_gnn.models.calibration import sigmoid
from memstore_gnn.models.design import query_weights
from memstore_gnn.models.newton import solve
from memstore_gnn.models.settings import VoteSettings

VOTES = VoteSettings()
FEATURES = ("share_logit", "share", "majority", "first_share", "second_share", "distinct", "entropy", "log_size")
"""Columns of `memstore_gnn.features.structure.vote_columns`; a function of the group's votes alone."""


@dataclass(frozen=True)
class VoteModel:
    """Logistic regression on votes; see the module's docstring.

    Attributes:
        weights: float64 [1 + F], intercept first.
    """

    weights: FloatVector

    def probability(self, groups: Groups) -> FloatVector:
        """Probability that each rollout is right, float64 [T]; equal for the rollouts of a group with one answer."""
        return sigmoid(groups.answer.mean(_inputs(groups) @ self.weights))


def fit_votes(
    groups: Groups, target: FloatVector, rows: IntVector, query_weight: float = VOTES.query_weight
) -> VoteModel:
    """Fit the vote model; without rows it is the share of the votes, smoothed by half a vote.

    Args:
        groups: partitions of all rollouts.
        target: float64 [N], labels or probabilities of `rows`, in 0..1.
        rows: int64 [N], rollouts to fit to; every query has the same weight.
        query_weight: independent examples that the rows of one query count for.
    """
    penalty = np.full(1 + len(FEATURES), VOTES.feature_penalty)
    penalty[:2] = VOTES.intercept_penalty, VOTES.share_penalty
    centre = np.zeros(len(penalty))
    centre[1] = 1.0
    weight = query_weights(groups.query_of[rows], query_weight)
    return VoteModel(solve(_inputs(groups)[rows], target, weight, penalty, centre))


def _inputs(groups: Groups) -> NDArray[np.float64]:
    """One and the features, float64 [T, 1 + F]."""
    columns = vote_columns(groups)
    return np.column_stack([np.ones(len(groups.query_of)), *(columns[name] for name in FEATURES)]).astype(np.float64)
