"""Logistic regression with a Gaussian prior on the coefficients, by Newton's method."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector

MAX_ROUNDS = 30
"""Newton steps at most."""
MAX_STEP = 3.0
"""Largest change of a coefficient in one round: far from the solution a full Newton step overshoots."""
FAR = 1e-2
"""Change of a coefficient from which a step is checked, and halved until it does not go beyond the minimum."""
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

    def gradient(at: FloatVector) -> tuple[FloatVector, FloatVector]:
        """Gradient at a point, and the probabilities there."""
        probability = 1.0 / (1.0 + np.exp(-np.clip(x @ at, -30.0, 30.0)))
        return x.T @ (weight * (probability - label)) + penalty * (at - centre), probability

    solution = centre.copy()
    for _ in range(MAX_ROUNDS):
        slope, probability = gradient(solution)
        curvature = weight * probability * (1.0 - probability)
        step = np.linalg.solve((x * curvature[:, None]).T @ x + np.diag(penalty), slope)
        largest = float(np.abs(step).max(initial=0.0))
        step *= min(1.0, MAX_STEP / max(largest, TOLERANCE))
        # Where logits are large, curvature is small and a whole step can go far beyond the minimum along it.
        while largest > FAR and -float(gradient(solution - step)[0] @ step) > 0.5 * float(slope @ step):
            step *= 0.5
        solution -= step
        if largest < TOLERANCE:
            break
    return solution


def log_loss(logit: FloatVector, label: FloatVector, weight: FloatVector) -> float:
    """Weighted mean cross-entropy in nats; all arguments float64 [N]."""
    return float((weight * (np.logaddexp(0.0, logit) - label * logit)).sum() / weight.sum())
