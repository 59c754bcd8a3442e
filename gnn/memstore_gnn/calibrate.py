"""From two opinions to one probability: how far to trust the network's correction, and how far the scale.

    logit = slope * prior + trust * correction + shift

Fitted on predictions for queries that neither opinion was fitted to, and shrunk: to the prior as it is, with half
of the correction. With few queries it stays there; a correction that does not help is faded out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.model.prior import query_weights, solve

CENTRE = (1.0, 0.5, 0.0)
PENALTY = (16.0, 16.0, 8.0)
"""One over the variance that slope, trust and shift are expected to have around `CENTRE`."""


@dataclass(frozen=True)
class Calibration:
    """See the module's docstring; `slope` is over 0 and `trust` in 0..1."""

    slope: float = CENTRE[0]
    trust: float = CENTRE[1]
    shift: float = CENTRE[2]

    def logit(self, prior: FloatVector, correction: FloatVector) -> FloatVector:
        """float64 [T]."""
        return self.slope * prior + self.trust * correction + self.shift


def fit_calibration(prior: FloatVector, correction: FloatVector, label: FloatVector, query: IntVector) -> Calibration:
    """Fit to labelled rollouts, float64 [N] each; `query` int64 [N] gives each query the same weight."""
    columns = np.stack((prior, correction, np.ones(len(prior))), axis=1)
    weight = query_weights(query)
    slope, trust, shift = solve(columns, label, weight, np.array(PENALTY), np.array(CENTRE))
    return Calibration(max(float(slope), 0.1), float(np.clip(trust, 0.0, 1.0)), float(shift))


def sigmoid(logit: FloatVector) -> FloatVector:
    """Probability of a logit, float64; never exactly 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))
