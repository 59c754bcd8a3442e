"""Reward shaping: turns the probability that a rollout is right into the reward for policy optimisation.

    name          value of a rollout with probability p
    probability   p
    threshold     1 if p >= 1/2, else 0
    shrunk        mean + c (p - mean), with the group's mean and the model's certainty c = |2p - 1|
    advantage     p / sqrt(s (1 - s)), with s the share of the group that has the same answer; p if s = 1

A group-relative method (GRPO) subtracts the group's mean, so only differences within a group matter. `advantage` is
the expectation of GRPO's own advantage up to a constant per group. It is no probability, can exceed 1, and is meant
for methods that subtract the group's mean. docs/rewards.md compares the shapings.

A method that divides by the group's standard deviation treats a difference of .01 like one of .9. `min_spread` prevents
this: a group whose probabilities are closer together gets its mean probability throughout, which yields no advantage.

Rollouts with the same answer get bitwise equal values; else dividing by the deviation would amplify rounding noise.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np

from memstore.types import FloatVector, IntVector

Shaping: TypeAlias = Literal["probability", "threshold", "shrunk", "advantage"]
SHAPINGS: tuple[Shaping, ...] = get_args(Shaping)

DECIMALS = 6
"""Decimals of a probability; the model's rounding noise is smaller."""


def shape(probability: FloatVector, answer: IntVector, shaping: Shaping, min_spread: float = 0.0) -> FloatVector:
    """Return the rewards of one group, float64 [N].

    Args:
        probability: float64 [N], 0..1.
        answer: int64 [N], equal for rollouts with the same answer.
        shaping: see the module's docstring.
        min_spread: see the module's docstring; 0 keeps every group.
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
    """Whether the probabilities of a group are closer together than `min_spread`."""
    return bool(np.ptp(probability) < min_spread)
