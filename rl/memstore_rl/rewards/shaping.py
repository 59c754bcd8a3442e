"""From the probability that a rollout is right to the reward that policy optimisation uses.

    name          value of a rollout with probability p
    probability   p
    threshold     1 where p is at least one half, else 0
    shrunk        mean + c (p - mean), mean the group's, c = |2p - 1| the model's certainty: what it doubts counts less
    advantage     p / sqrt(s (1 - s)), s the share of the group that reached the same answer; p where all did

A group-relative method (GRPO) subtracts the group's mean, so only what differs inside a group counts. `advantage` is
the expectation of GRPO's own advantage up to a constant of the group: it is no probability and can exceed 1, and
belongs to methods that take the group's mean away. docs/rewards.md has what each was worth.

A method that divides by the group's deviation makes as much of a difference of .01 as of one of .9. `min_spread` is
against that: a group whose probabilities lie closer together is given its mean probability throughout, so that no
advantage comes of it.

Values of one answer are equal to the last bit: a method that divides by the group's deviation would blow up the noise.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from memstore.types import FloatVector, IntVector

Shaping: TypeAlias = Literal["probability", "threshold", "shrunk", "advantage"]
SHAPINGS: tuple[Shaping, ...] = get_args(Shaping)

DECIMALS = 6
"""Probabilities are told to so many places: the model's own rounding noise lies below."""


def shape(probability: FloatVector, answer: IntVector, shaping: Shaping, min_spread: float = 0.0) -> FloatVector:
    """The rewards of one group, float64 [N].

    Args:
        probability: float64 [N], 0..1.
        answer: int64 [N], equal for rollouts that reached the same answer.
        min_spread: see the module; 0 lets every group count.
    """
    if is_flat(probability, min_spread):
        return np.full(len(probability), probability.mean())
    if shaping == "threshold":
        return (probability >= 0.5).astype(np.float64)
    if shaping == "shrunk":
        mean = probability.mean()
        return np.asarray(mean + np.abs(2 * probability - 1) * (probability - mean))
    if shaping == "advantage":
        _, cell, votes = np.unique(answer, return_inverse=True, return_counts=True)
        share = (votes / len(answer))[cell]
        return np.asarray(probability / np.sqrt(np.where(share < 1, share * (1 - share), 1.0)))
    return probability.copy()


def is_flat(probability: FloatVector, min_spread: float) -> bool:
    """Do the probabilities of a group lie too close together to tell its rollouts apart?"""
    return bool(np.ptp(probability) < min_spread)
