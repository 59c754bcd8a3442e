r"""Weight of the features within a group, relative to the votes, estimated from pairs of rollouts.

A pair is a right and a wrong rollout of one query. The difficulty of the query and the calibration of the
probabilities cancel out of a pair; the order remains. On pairs of held-out queries, a logistic regression without
intercept predicts which rollout is the right one from the differences in vote logit :math:`v` and feature logit
:math:`f`:

.. math::
    P(r \succ w) = \sigma(\beta_v (v_r - v_w) + \beta_f (f_r - f_w)), \qquad \text{weight} = \beta_f / \beta_v

The weight is about one if the features were shrunk well, and zero if they order no better than chance, which a loss
over all rollouts does not show. It is shrunk to an expected value and never negative. Without any pair it is the
expected value.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.models.newton import solve
from memstore_gnn.models.settings import PairSettings

PAIRS = PairSettings()


class Pairs(NamedTuple):
    """Pairs of a right and a wrong rollout of one query: rows int64 [P] of both, and weights float64 [P]."""

    right: IntVector
    wrong: IntVector
    weight: FloatVector

    @classmethod
    def of(cls, label: FloatVector, query: IntVector) -> Pairs:
        """All pairs of labelled rollouts.

        Args:
            label: float64 [N]; a rollout is right above 0.5.
            query: int64 [N].
        """
        order = np.argsort(query, kind="stable")
        starts = np.flatnonzero(np.diff(query[order], prepend=query[order[:1]] - 1))
        found = [_pairs(rows, label) for rows in np.split(order, starts[1:])]
        right, wrong, weight = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return cls(right, wrong, weight)


def _pairs(rows: IntVector, label: FloatVector) -> tuple[IntVector, IntVector, FloatVector]:
    """Pairs of one query."""
    right, wrong = rows[label[rows] > 0.5], rows[label[rows] <= 0.5]
    count, most = len(right) * len(wrong), PAIRS.max_pairs
    taken = np.arange(count) if count <= most else np.random.default_rng(0).integers(0, count, most)
    first, second = np.divmod(taken, max(len(wrong), 1))
    return right[first], wrong[second], np.full(len(taken), PAIRS.query_weight / max(len(taken), 1))


def within_group_weight(pairs: Pairs, votes: FloatVector, features: FloatVector, expected: float) -> float:
    """Weight of the feature logit within a group, relative to 1 for the votes; 0..`PairSettings.max_weight`.

    Args:
        votes: float64 [N], logit of each rollout from the votes.
        features: float64 [N], logit of each rollout from the features, in addition to the votes.
        expected: value that the weight is shrunk to.
    """
    if not len(pairs.right):
        return expected
    x = np.column_stack([part[pairs.right] - part[pairs.wrong] for part in (votes, features)])
    penalty, centre = np.array([PAIRS.vote_penalty, PAIRS.feature_penalty]), np.array([1.0, expected])
    of_votes, of_features = solve(x, np.ones(len(x)), pairs.weight, penalty, centre)
    return float(np.clip(of_features / max(float(of_votes), PAIRS.min_vote_coefficient), 0.0, PAIRS.max_weight))
