r"""Share a score's log odds out among the items that influence it, so that the shares add up.

Each figure comes from real scores. Let :math:`L` be the log odds of the score, and :math:`\delta_i` what it loses
without item :math:`i` alone. Items that say the same hide each other: without one of ten votes for an answer, nine are
left. So all items of a kind that raise the score form a block, all that lower it another, and a block is removed at
once. The blocks go one after another, in two orders :math:`o`, until only the prior is left. A block has

.. math::
    W_b = \tfrac12 \sum_{o} \big( L(S^o_b) - L(S^o_b \setminus b) \big)

with :math:`S^o_b` what is left when the order reaches :math:`b`. Its items have

.. math::
    w_i = \delta_i + \Big( W_b - \sum_{j \in b} \delta_j \Big) \frac{|\delta_i|}{\sum_{j \in b} |\delta_j|}

So prior and weights add up to :math:`L`. The second order is the reverse of the first, except that in both,
reliabilities go before the votes that they weigh, and the labels of distant queries before those of near ones:
otherwise other queries would become the nearest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_

import numpy as np

from memstore_gnn.explain.influences import FEATURES, LABELLED, LABELS, QUERY, RELIABILITY, ROLLOUT, VOTE, Item
from memstore_gnn.explain.scene import NOTHING, Scene
from memstore_gnn.models.calibration import log_odds, sigmoid

FORWARD = (RELIABILITY, VOTE, ROLLOUT, LABELS, LABELLED, QUERY, FEATURES)
BACKWARD = (FEATURES, LABELS, QUERY, LABELLED, RELIABILITY, ROLLOUT, VOTE)
_LIMIT = 1e-12
"""Probabilities are kept this far from 0 and 1."""


def logit_of(probability: float) -> float:
    """Log odds of a probability."""
    return float(log_odds(np.asarray(probability), _LIMIT))


def probability_of(logit: float) -> float:
    """The inverse of `logit_of`."""
    return float(sigmoid(np.asarray(logit)))


def shares(scene: Scene, items: Sequence[Item]) -> tuple[dict[Item, float], float]:
    """Weight of each item, and the prior."""
    whole = logit_of(scene.probability())
    alone = {item: whole - logit_of(scene.probability(item.removed)) for item in items}
    blocks: dict[tuple[str, bool], list[Item]] = {}
    for item in items:
        blocks.setdefault((item.kind, alone[item] > 0.0), []).append(item)
    total, prior = _removed_in_turn(scene, blocks)
    weight: dict[Item, float] = {}
    for name, block in blocks.items():
        rest = total[name] - sum(alone[item] for item in block)
        size = sum(abs(alone[item]) for item in block)
        for item in block:
            share = abs(alone[item]) / size if size > _LIMIT else 1.0 / len(block)
            weight[item] = alone[item] + rest * share
    return weight, prior


def _removed_in_turn(
    scene: Scene, blocks: Mapping[tuple[str, bool], Sequence[Item]]
) -> tuple[dict[tuple[str, bool], float], float]:
    """Weight of each block, and the log odds of what is left at the end."""
    total, before = dict.fromkeys(blocks, 0.0), 0.0
    for kinds, raising_first in ((FORWARD, True), (BACKWARD, False)):
        removed, before = NOTHING, logit_of(scene.probability())
        for name in sorted(blocks, key=lambda block: (kinds.index(block[0]), block[1] is not raising_first)):
            removed = reduce(or_, (item.removed for item in blocks[name]), removed)
            after = logit_of(scene.probability(removed))
            total[name] += 0.5 * (before - after)
            before = after
    return total, before
