r"""Calibration of the base's logit.

.. math::
    \mathrm{logit} = a \cdot \mathrm{base} + b

with slope :math:`a` and shift :math:`b`, fitted to out-of-fold predictions of labelled rollouts and shrunk to slope 1
and shift 0. The domains and data sets of a memory are miscalibrated by different amounts. Each such stratum has a slope
and a shift of its own, shrunk to the general ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.models.design import query_weights
from memstore_gnn.models.newton import solve
from memstore_gnn.models.settings import CalibrationSettings

CALIBRATION = CalibrationSettings()


@dataclass(frozen=True)
class Calibration:
    """Parameters of the calibration; see the module's docstring.

    Attributes:
        slope: factor of the base's logit, positive.
        shift: added logit.
    """

    slope: float = 1.0
    shift: float = 0.0

    def logit(self, base: FloatVector) -> FloatVector:
        """Calibrated logit, float64 [T]."""
        return self.slope * base + self.shift


def fit_calibration(
    base: FloatVector, label: FloatVector, query: IntVector, centre: Calibration | None = None
) -> Calibration:
    """Fit to out-of-fold predictions of labelled rollouts.

    Args:
        base: float64 [N], logits of the base.
        label: float64 [N], in 0..1.
        query: int64 [N]; every query has the same weight.
        centre: what slope and shift are shrunk to; None: 1 and 0.
    """
    centre = centre or Calibration()
    columns = np.stack((base, np.ones(len(base))), axis=1)
    penalty = np.array([CALIBRATION.slope_penalty, CALIBRATION.shift_penalty])
    weight = query_weights(query, CALIBRATION.query_weight)
    slope, shift = solve(columns, label, weight, penalty, np.array([centre.slope, centre.shift]))
    return Calibration(max(float(slope), CALIBRATION.min_slope), float(shift))


def fit_stratum_calibrations(
    general: Calibration, base: FloatVector, label: FloatVector, query: IntVector, stratum: Sequence[str]
) -> dict[str, Calibration]:
    """Fit slope and shift of each stratum that has enough labelled queries.

    Args:
        base, label, query: as in `fit_calibration`.
        stratum: [N], stratum of each rollout.
    """
    names = np.array(stratum, dtype=object)
    found = {}
    for name in dict.fromkeys(stratum):
        inside = names == name
        if len(np.unique(query[inside])) >= CALIBRATION.min_queries:
            found[name] = fit_calibration(base[inside], label[inside], query[inside], general)
    return found


def stratum_logit(
    general: Calibration, own: Mapping[str, Calibration], base: FloatVector, stratum: Sequence[str]
) -> FloatVector:
    """Logit of each rollout by the calibration of its stratum, or by the general one; float64 [N]."""
    used = [own.get(name, general) for name in stratum]
    slope, shift = (np.array([getattr(one, name) for one in used]) for name in ("slope", "shift"))
    return np.asarray(slope * base + shift)


EDGE = 1e-6
"""Posteriors by votes are kept this far from 0 and 1, so that votes never outweigh everything else."""


def log_odds(probability: FloatVector, edge: float = EDGE) -> FloatVector:
    """Log odds of probabilities, float64, which are first moved `edge` away from 0 and 1."""
    clipped = np.clip(probability, edge, 1.0 - edge)
    return np.asarray(np.log(clipped / (1.0 - clipped)), np.float64)


def sigmoid(logit: FloatVector) -> FloatVector:
    """Probability of a logit, float64; never exactly 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))
