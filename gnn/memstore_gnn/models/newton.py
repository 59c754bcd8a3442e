"""Logistic regression with a Gaussian prior of any mean, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector

ROUNDS = 30
LONGEST_STEP = 3.0
"""Largest change of a coefficient in one round: far from the solution a full step overshoots."""
SETTLED = 1e-6
FIXED = 1e9
"""Penalty that keeps a coefficient where it is."""


def solve(
    x: NDArray[np.float64], label: FloatVector, weight: FloatVector, penalty: FloatVector, centre: FloatVector
) -> FloatVector:
    """Coefficients that minimise weighted cross-entropy plus penalty / 2 x (coefficient - centre)^2.

    Args:
        x: float64 [N, F].
        label: float64 [N] in 0..1.
        penalty: float64 [F], positive.
    """
    solution = centre.copy()
    for _ in range(ROUNDS):
        probability = 1.0 / (1.0 + np.exp(-np.clip(x @ solution, -30.0, 30.0)))
        gradient = x.T @ (weight * (probability - label)) + penalty * (solution - centre)
        curvature = weight * probability * (1.0 - probability)
        step = np.linalg.solve((x * curvature[:, None]).T @ x + np.diag(penalty), gradient)
        largest = float(np.abs(step).max(initial=0.0))
        solution -= step * min(1.0, LONGEST_STEP / max(largest, SETTLED))
        if largest < SETTLED:
            break
    return solution


def log_loss(logit: FloatVector, label: FloatVector, weight: FloatVector) -> float:
    """Weighted mean of the cross-entropy."""
    return float((weight * (np.logaddexp(0.0, logit) - label * logit)).sum() / weight.sum())
