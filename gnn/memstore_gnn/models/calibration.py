"""From two opinions to one probability: how far to trust the network's correction, and how far the scale.

    logit = slope * base + trust * correction + shift

Fitted on predictions for queries that neither opinion was fitted to, and shrunk: to the base as it is, with a share
of the correction that grows with the number of labelled queries to a half. With few queries it stays there; a
correction that does not help is faded out, and one that does not order the held-out rollouts better (AUC and
advantage, beyond its standard error over the folds) is not used at all: a smaller loss is no better advantage.

Domains and datasets of one memory are off by different amounts, so each has a slope and a shift of its own, shrunk
to those of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import Partition
from memstore_gnn.metrics import advantage_soft, auc
from memstore_gnn.models.newton import FIXED, solve

QUERY_WEIGHT = 0.7
"""Independent examples that the rollouts of a query count for in the network's loss."""
SCALE_WEIGHT = 2.0
"""The same, for slope and shift."""
TRUST = 0.5
HALF_TRUST_AT = 50
"""Labelled queries at which half of `TRUST` is expected."""
PENALTY = (32.0, 16.0, 8.0)
"""One over the variance that slope, trust and shift are expected to have."""
FEWEST_QUERIES = 5
"""A place with fewer labelled queries has the slope and shift of all."""
LEAST_SLOPE = 0.1


@dataclass(frozen=True)
class Calibration:
    """See the module's docstring; `slope` is over 0 and `trust` in 0..1."""

    slope: float = 1.0
    trust: float = TRUST
    shift: float = 0.0

    def logit(self, base: FloatVector, correction: FloatVector) -> FloatVector:
        """float64 [T]."""
        return self.slope * base + self.trust * correction + self.shift


def fit_calibration(
    base: FloatVector, correction: FloatVector, label: FloatVector, query: IntVector, fold: IntVector
) -> Calibration:
    """Fit to labelled rollouts, one entry each.

    Args:
        base, correction: float64 [N], of rollouts that they were not fitted to.
        query: int64 [N]; each query has the same weight.
        fold: int64 [N], over which the correction has to show that it orders rollouts better.
    """
    fitted = _fit(base, correction, label, query)
    gain = _gains(base, fitted.logit(base, correction), label, query, fold)
    if len(gain) > 1 and gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
        return fitted
    return replace(_fit(base, np.zeros(len(base)), label, query), trust=0.0)


def _fit(base: FloatVector, correction: FloatVector, label: FloatVector, query: IntVector) -> Calibration:
    columns = np.stack((base, correction, np.ones(len(base))), axis=1)
    queries = len(np.unique(query))
    centre = np.array([1.0, TRUST * queries / (queries + HALF_TRUST_AT), 0.0])
    weight = query_weights(query, SCALE_WEIGHT)
    slope, trust, shift = solve(columns, label, weight, np.array(PENALTY), centre)
    return Calibration(max(float(slope), LEAST_SLOPE), float(np.clip(trust, 0.0, 1.0)), float(shift))


def calibrate_places(
    general: Calibration,
    base: FloatVector,
    correction: FloatVector,
    label: FloatVector,
    query: IntVector,
    place: Sequence[str],
) -> dict[str, Calibration]:
    """The calibration of each place that has labelled queries enough: its slope and shift, and the general trust.

    Args:
        base, correction, label, query: as in `fit_calibration`.
        place: [N], where each rollout belongs.
    """
    names = np.array(place, dtype=object)
    found = {}
    for name in dict.fromkeys(place):
        inside = names == name
        if len(np.unique(query[inside])) >= FEWEST_QUERIES:
            columns = np.stack((base[inside], correction[inside], np.ones(int(inside.sum()))), axis=1)
            centre = np.array([general.slope, general.trust, general.shift])
            penalty = np.array([PENALTY[0], FIXED, PENALTY[2]])
            weight = query_weights(query[inside], SCALE_WEIGHT)
            slope, _, shift = solve(columns, label[inside], weight, penalty, centre)
            found[name] = replace(general, slope=max(float(slope), LEAST_SLOPE), shift=float(shift))
    return found


def logit_by_place(
    general: Calibration,
    own: Mapping[str, Calibration],
    base: FloatVector,
    correction: FloatVector,
    place: Sequence[str],
) -> FloatVector:
    """float64 [N]: each rollout by the calibration of its place, or the general one."""
    used = [own.get(name, general) for name in place]
    slope, trust, shift = (np.array([getattr(one, name) for one in used]) for name in ("slope", "trust", "shift"))
    return np.asarray(slope * base + trust * correction + shift)


def _gains(
    base: FloatVector, corrected: FloatVector, label: FloatVector, query: IntVector, fold: IntVector
) -> FloatVector:
    """How much more `corrected` is worth than `base` in each fold that can tell, float64 [folds]."""
    parts = [fold == part for part in np.unique(fold)]
    gain = [worth(corrected[p], label[p], query[p]) - worth(base[p], label[p], query[p]) for p in parts]
    return np.array([value for value in gain if np.isfinite(value)])


def worth(logit: FloatVector, label: FloatVector, query: IntVector) -> float:
    """AUC plus advantage: how well an order serves policy optimisation; NaN where the labels cannot tell."""
    probability = sigmoid(logit)
    return auc(probability, label) + advantage_soft(probability, label, query)


def query_weights(query: IntVector, weight: float = QUERY_WEIGHT) -> FloatVector:
    """float64 [N]: `weight` over the number of rows of the row's query."""
    return np.asarray(weight / Partition.of(query).size)


def sigmoid(logit: FloatVector) -> FloatVector:
    """Probability of a logit, float64; never exactly 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))))
