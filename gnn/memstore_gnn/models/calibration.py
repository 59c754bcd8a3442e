r"""Calibration: combine the base's logit and the networks' correction into one calibrated logit.

.. math::
    \mathrm{logit} = a \cdot \mathrm{base} + m \cdot \mathrm{correction} + b

with slope :math:`a`, mixing weight :math:`m` and shift :math:`b`. They are fitted to out-of-fold predictions of
labelled rollouts and shrunk to slope 1, shift 0 and a mixing weight that grows with the number of labelled queries
towards `CalibrationSettings.mixing_weight`. The correction is used only if it orders the held-out rollouts better, in
AUC plus
advantage and by more than its standard error over the folds: a lower loss does not imply a better advantage.

The domains and data sets of a memory are miscalibrated by different amounts. Each such stratum has a slope and a shift
of its own, shrunk to the general ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.metrics import advantage_soft, auc
from memstore_gnn.models.design import query_weights
from memstore_gnn.models.newton import FIXED, solve
from memstore_gnn.models.settings import CalibrationSettings

CALIBRATION = CalibrationSettings()


@dataclass(frozen=True)
class Calibration:
    """Parameters of the calibration; see the module's docstring.

    Attributes:
        slope: factor of the base's logit, positive.
        mixing_weight: factor of the networks' correction, 0..1.
        shift: added logit.
    """

    slope: float = 1.0
    mixing_weight: float = CALIBRATION.mixing_weight
    shift: float = 0.0

    def logit(self, base: FloatVector, correction: FloatVector) -> FloatVector:
        """Calibrated logit, float64 [T]."""
        return self.slope * base + self.mixing_weight * correction + self.shift


def fit_calibration(
    base: FloatVector, correction: FloatVector, label: FloatVector, query: IntVector, fold: IntVector
) -> Calibration:
    """Fit to out-of-fold predictions of labelled rollouts.

    Args:
        base: float64 [N], logits of the base.
        correction: float64 [N], corrections of the networks.
        label: float64 [N], in 0..1.
        query: int64 [N]; every query has the same weight.
        fold: int64 [N]; the correction has to order the rollouts better over these folds.
    """
    fitted = _fit(base, correction, label, query)
    gain = _gains(base, fitted.logit(base, correction), label, query, fold)
    if len(gain) > 1 and gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
        return fitted
    return replace(_fit(base, np.zeros(len(base)), label, query), mixing_weight=0.0)


def _fit(base: FloatVector, correction: FloatVector, label: FloatVector, query: IntVector) -> Calibration:
    columns = np.stack((base, correction, np.ones(len(base))), axis=1)
    queries = len(np.unique(query))
    expected = CALIBRATION.mixing_weight * queries / (queries + CALIBRATION.half_mixing_queries)
    penalty = np.array([CALIBRATION.slope_penalty, CALIBRATION.mixing_penalty, CALIBRATION.shift_penalty])
    weight = query_weights(query, CALIBRATION.query_weight)
    slope, mixing_weight, shift = solve(columns, label, weight, penalty, np.array([1.0, expected, 0.0]))
    return Calibration(max(float(slope), CALIBRATION.min_slope), float(np.clip(mixing_weight, 0.0, 1.0)), float(shift))


def fit_stratum_calibrations(
    general: Calibration,
    base: FloatVector,
    correction: FloatVector,
    label: FloatVector,
    query: IntVector,
    stratum: Sequence[str],
) -> dict[str, Calibration]:
    """Fit slope and shift of each stratum that has enough labelled queries; the mixing weight stays the general one.

    Args:
        base, correction, label, query: as in `fit_calibration`.
        stratum: [N], stratum of each rollout.
    """
    names = np.array(stratum, dtype=object)
    penalty = np.array([CALIBRATION.slope_penalty, FIXED, CALIBRATION.shift_penalty])
    centre = np.array([general.slope, general.mixing_weight, general.shift])
    found = {}
    for name in dict.fromkeys(stratum):
        inside = names == name
        if len(np.unique(query[inside])) >= CALIBRATION.min_queries:
            columns = np.stack((base[inside], correction[inside], np.ones(int(inside.sum()))), axis=1)
            weight = query_weights(query[inside], CALIBRATION.query_weight)
            slope, _, shift = solve(columns, label[inside], weight, penalty, centre)
            found[name] = replace(general, slope=max(float(slope), CALIBRATION.min_slope), shift=float(shift))
    return found


def stratum_logit(
    general: Calibration,
    own: Mapping[str, Calibration],
    base: FloatVector,
    correction: FloatVector,
    stratum: Sequence[str],
) -> FloatVector:
    """Logit of each rollout by the calibration of its stratum, or by the general one; float64 [N]."""
    used = [own.get(name, general) for name in stratum]
    slope, mixing_weight, shift = (
        np.array([getattr(one, name) for one in used]) for name in ("slope", "mixing_weight", "shift")
    )
    return np.asarray(slope * base + mixing_weight * correction + shift)


def _gains(
    base: FloatVector, corrected: FloatVector, label: FloatVector, query: IntVector, fold: IntVector
) -> FloatVector:
    """Utility of `corrected` less that of `base` in each fold where both are defined, float64 [folds]."""
    parts = [fold == part for part in np.unique(fold)]
    gain = [utility(corrected[p], label[p], query[p]) - utility(base[p], label[p], query[p]) for p in parts]
    return np.array([value for value in gain if np.isfinite(value)])


def utility(logit: FloatVector, label: FloatVector, query: IntVector) -> float:
    """AUC plus soft advantage: the value of an order for policy optimisation; NaN if either is undefined."""
    probability = sigmoid(logit)
    return auc(probability, label) + advantage_soft(probability, label, query)


def sigmoid(logit: FloatVector) -> FloatVector:
    """Probability of a logit, float64; never exactly 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))
