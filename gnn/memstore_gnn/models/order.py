"""How far to trust what features say inside a group, beyond the votes: asked of pairs.

A pair is a right and a wrong rollout of one query. How hard the query is, and how well probabilities are calibrated,
cancels out of a pair; what is left is the order. On pairs of held-out queries the logit of "the right one is the right
one" is regressed on what the votes and what the features say of the difference. The features' coefficient beside that
of the votes is how far they are to be trusted: about one where shrinkage was right, none where they order no better
than chance, which no loss over all rollouts would tell.

Shrunk to what is trusted elsewhere, and never negative: labels too few for a pair change nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.models.newton import solve

QUERY_WEIGHT = 2.0
"""Independent examples that the pairs of a query count for."""
VOTE_SHRINKAGE, SHRINKAGE = 10.0, 0.3
"""Of the votes' coefficient to one, and of the features' to what is expected."""
LEAST_VOTES = 0.1
MOST = 1.5
MOST_PAIRS = 10_000
"""Of one query; of more, so many are drawn."""


class Pairs(NamedTuple):
    """Right and wrong rollouts of one query: rows int64 [P] both, and weights float64 [P]."""

    right: IntVector
    wrong: IntVector
    weight: FloatVector

    @classmethod
    def of(cls, label: FloatVector, query: IntVector) -> Pairs:
        """All pairs of labelled rollouts (label float64 [N], right over 0.5; query int64 [N])."""
        order = np.argsort(query, kind="stable")
        starts = np.flatnonzero(np.diff(query[order], prepend=query[order[:1]] - 1))
        found = [_pairs(rows, label) for rows in np.split(order, starts[1:])]
        right, wrong, weight = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return cls(right, wrong, weight)


def _pairs(rows: IntVector, label: FloatVector) -> tuple[IntVector, IntVector, FloatVector]:
    """Of one query."""
    right, wrong = rows[label[rows] > 0.5], rows[label[rows] <= 0.5]
    count = len(right) * len(wrong)
    taken = np.arange(count) if count <= MOST_PAIRS else np.random.default_rng(0).integers(0, count, MOST_PAIRS)
    first, second = np.divmod(taken, max(len(wrong), 1))
    return right[first], wrong[second], np.full(len(taken), QUERY_WEIGHT / max(len(taken), 1))


def trust_in_order(pairs: Pairs, votes: FloatVector, said: FloatVector, expected: float) -> float:
    """Weight of what features say beside 1 of the votes, 0..`MOST`.

    Args:
        votes, said: float64 [N], logits that rollouts get from the votes and, beside those, from features.
        expected: what it is shrunk to.
    """
    if not len(pairs.right):
        return expected
    x = np.column_stack([part[pairs.right] - part[pairs.wrong] for part in (votes, said)])
    penalty, centre = np.array([VOTE_SHRINKAGE, SHRINKAGE]), np.array([1.0, expected])
    of_votes, of_said = solve(x, np.ones(len(x)), pairs.weight, penalty, centre)
    return float(np.clip(of_said / max(float(of_votes), LEAST_VOTES), 0.0, MOST))
