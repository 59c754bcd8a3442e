r"""Worth of a label: how much it is expected to change the advantages of a query's rollouts.

With p the predicted rewards of the rollouts, A(v) = v - mean(v) the advantage, and T the truth,

.. math::
    w = \sum_a P(T = a) \, \frac{1}{n} \, | A(1_a) - A(p) |^2

over the outcomes of a label: each answer a is right, or none is. A mean over the n rollouts in place of a sum keeps
queries of different sizes comparable. With shares :math:`s_a` of the rollouts,
:math:`|A(v)|^2 / n` is the variance of v under s, so that

.. math::
    w = Var_s(p) + \sum_a P_a [ s_a (1 - s_a) - 2 s_a (p_a - m) ], \quad m = \sum_a s_a p_a .

Where several answers of a query can be right, each is right by itself, and
:math:`w = \sum_a p_a (1 - p_a) s_a (1 - s_a)`.
"""

from __future__ import annotations

import numpy as np

from memstore.types import FloatVector
from memstore_gnn.queue.candidates import Candidates


def advantage_worth(found: Candidates) -> FloatVector:
    """Expected squared change of the advantage of a rollout by a label of each query, float64 [Q]."""
    queries, s, p = len(found.size), found.share, found.p

    def total(values: FloatVector) -> FloatVector:
        return np.asarray(np.bincount(found.query, values, queries), np.float64)

    mean = total(s * p)
    variance = total(s * p**2) - mean**2
    chance = np.where(found.answer >= 0, p, 0.0)
    chance = chance / np.maximum(total(chance), 1.0)[found.query]
    of_one = variance + total(chance * (s * (1 - s) - 2 * s * (p - mean[found.query])))
    free = np.where(found.judged | (found.answer < 0), 0.0, p * (1 - p) * s * (1 - s))
    return np.maximum(np.where(found.one_right, of_one, total(free)), 0.0)
