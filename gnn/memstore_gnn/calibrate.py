"""From two opinions to one probability: how far to trust the network's correction, and how far the scale.

    logit = slope * prior + trust * correction + shift

Fitted on predictions for queries that neither opinion was fitted to, and shrunk: to the prior as it is, with a share
of the correction that grows with the number of labelled queries to a half. With few queries it stays there; a
correction that does not help is faded out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.model.prior import query_weights, solve

TRUST = 0.5
HALF_TRUST_AT = 50
"""Labelled queries at which half of `TRUST` is expected."""
PENALTY = (16.0, 16.0, 8.0)
"""One over the variance that slope, trust and shift are expected to have."""


@dataclass(frozen=True)
class Calibration:
    """See the module's docstring; `slope` is over 0 and `trust` in 0..1."""

    slope: float = 1.0
    trust: float = TRUST
    shift: float = 0.0

    def logit(self, prior: FloatVector, correction: FloatVector) -> FloatVector:
        """float64 [T]."""
        return self.slope * prior + self.trust * correction + self.shift


def fit_calibration(prior: FloatVector, correction: FloatVector, label: FloatVector, query: IntVector) -> Calibration:
    """Fit to labelled rollouts, float64 [N] each; `query` int64 [N] gives each query the same weight."""
    columns = np.stack((prior, correction, np.ones(len(prior))), axis=1)
    queries = len(np.unique(query))
    centre = np.array([1.0, TRUST * queries / (queries + HALF_TRUST_AT), 0.0])
    slope, trust, shift = solve(columns, label, query_weights(query), np.array(PENALTY), centre)
    return Calibration(max(float(slope), 0.1), float(np.clip(trust, 0.0, 1.0)), float(shift))


def sigmoid(logit: FloatVector) -> FloatVector:
    """Probability of a logit, float64; never exactly 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))
