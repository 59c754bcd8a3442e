"""How sharp the votes of a domain are: what a prior's log odds are multiplied by there.

Wrong answers scatter where any number may be the answer, so agreement says more than its log odds; where the same
mistake is made again and again, as by programs, it says less. No set without labels can tell, other sets of its
domain can: each would have its log odds multiplied by some slope, and a domain's sharpness is the geometric mean of
its sets' slopes, drawn to one by the weight of one more set. How often rollouts are right is a matter of the set and
is not carried over.

Invariant: a domain that is not known has sharpness one; the order of a domain's rollouts never changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector
from memstore_gnn.models.newton import solve

LEAST, MOST = 0.25, 4.0
"""No single set's slope counts for more than this."""
PENALTY = 1.0
"""Of a set's slope to one and of its shift to none, beside examples that sum to the set's weight."""


class Said(NamedTuple):
    """What a prior says of one set, and the truth; float64 [N] each.

    Attributes:
        weight: of each rollout; sums to what the set counts for.
        domain: str [N], of each rollout.
    """

    logit: FloatVector
    label: FloatVector
    weight: FloatVector
    domain: NDArray[np.object_]


def sharpness_of(sets: Iterable[Said]) -> dict[str, float]:
    """By domain, in the domains' order."""
    found: dict[str, list[float]] = {}
    for one in sets:
        for name in sorted(set(one.domain)):
            inside = one.domain == name
            found.setdefault(name, []).append(_slope(one.logit[inside], one.label[inside], one.weight[inside]))
    return {name: float(np.exp(np.log(found[name]).sum() / (len(found[name]) + 1))) for name in sorted(found)}


def _slope(logit: FloatVector, label: FloatVector, weight: FloatVector) -> float:
    """What multiplies log odds best, some shift beside it."""
    x = np.column_stack([logit, np.ones(len(logit))])
    slope, _ = solve(x, label, weight, np.full(2, PENALTY), np.array([1.0, 0.0]))
    return float(np.clip(slope, LEAST, MOST))
