r"""Inverse temperature of each domain: the factor that a prior's log odds are multiplied by.

Where any number can be the answer, wrong answers scatter, and agreement is stronger evidence than its log odds. Where
the same mistake is made again and again, as by programs, it is weaker evidence. A data set without labels cannot show
which of the two it is, but other data sets of its domain can. With :math:`s_i` the slope that fits the log odds of data
set :math:`i`, the inverse temperature of a domain with n data sets is

.. math::
    \beta = \exp\Big( \frac{1}{n + 1} \sum_{i=1}^{n} \log s_i \Big)

that is, the geometric mean of the slopes and of one more data set with slope 1. A domain without data sets has an
inverse temperature of 1. The share of right rollouts differs between data sets and is not carried over: each slope is
fitted with a shift that is discarded. The order of a domain's rollouts never changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector
from memstore_gnn.models.newton import solve
from memstore_gnn.models.settings import PriorSettings

PRIOR = PriorSettings()


class SetPredictions(NamedTuple):
    """A prior's predictions for one data set.

    Attributes:
        logit: float64 [N], predicted log odds.
        label: float64 [N], ground truth in 0..1.
        weight: float64 [N]; sums to the weight of the data set.
        domain: str [N], domain of each rollout.
    """

    logit: FloatVector
    label: FloatVector
    weight: FloatVector
    domain: NDArray[np.object_]


def inverse_temperatures(sets: Iterable[SetPredictions]) -> dict[str, float]:
    """Inverse temperature of each domain, ordered by domain."""
    found: dict[str, list[float]] = {}
    for one in sets:
        for name in sorted(set(one.domain)):
            inside = one.domain == name
            found.setdefault(name, []).append(_slope(one.logit[inside], one.label[inside], one.weight[inside]))
    return {name: float(np.exp(np.log(found[name]).sum() / (len(found[name]) + 1))) for name in sorted(found)}


def _slope(logit: FloatVector, label: FloatVector, weight: FloatVector) -> float:
    """Slope of a logistic regression of the label on the logit, with an intercept."""
    x = np.column_stack([logit, np.ones(len(logit))])
    slope, _ = solve(x, label, weight, np.full(2, PRIOR.slope_penalty), np.array([1.0, 0.0]))
    return float(np.clip(slope, PRIOR.min_inverse_temperature, PRIOR.max_inverse_temperature))
