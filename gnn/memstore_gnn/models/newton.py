"""Logistic regression with a Gaussian prior on the coefficients, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector

MAX_ROUNDS = 30
MAX_STEP = 3.0
"""Largest change of a coefficient in one round: far from the solution a full Newton step overshoots."""
TOLERANCE = 1e-6
"""Largest change of a coefficient at which the iteration stops."""
FIXED = 1e9
"""Penalty that keeps a coefficient at its centre."""


def solve(
    x: NDArray[np.float64], label: FloatVector, weight: FloatVector, penalty: FloatVector, centre: FloatVector
) -> FloatVector:
    r"""Fit the coefficients of a penalised logistic regression.

    .. math::
        \min_\beta \sum_i w_i \, \mathrm{CE}(\sigma(x_i^\top \beta), y_i)
        + \tfrac{1}{2} \sum_f \lambda_f (\beta_f - c_f)^2

    Args:
        x: float64 [N, F].
        label: float64 [N], in 0..1.
        weight: float64 [N], of each row.
        penalty: float64 [F], positive; the inverse variance of each coefficient's prior.
        centre: float64 [F], the mean of each coefficient's prior.

    Returns:
        Coefficients, float64 [F].
    """
    solution = centre.copy()
    for _ in range(MAX_ROUNDS):
        probability = 1.0 / (1.0 + np.exp(-np.clip(x @ solution, -30.0, 30.0)))
        gradient = x.T @ (weight * (probability - label)) + penalty * (solution - centre)
        curvature = weight * probability * (1.0 - probability)
        step = np.linalg.solve((x * curvature[:, None]).T @ x + np.diag(penalty), gradient)
        largest = float(np.abs(step).max(initial=0.0))
        solution -= step * min(1.0, MAX_STEP / max(largest, TOLERANCE))
        if largest < TOLERANCE:
            break
    return solution


def log_loss(logit: FloatVector, label: FloatVector, weight: FloatVector) -> float:
    """Weighted mean cross-entropy in nats; all arguments float64 [N]."""
    return float((weight * (np.logaddexp(0.0, logit) - label * logit)).sum() / weight.sum())
