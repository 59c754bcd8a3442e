"""Reward shaping: turns the probability that a rollout is right into the reward for policy optimisation.

    name          value of a rollout with probability p
    probability   p
    threshold     1 if p >= 1/2, else 0
    shrunk        mean + c (p - mean), with the group's mean and the model's certainty c = |2p - 1|
    advantage     p / sqrt(s (1 - s)), with s the share of the group that has the same answer; p if s = 1
    residual      w (p - v), with v the probability by the group's votes alone and a weight w

A group-relative method (GRPO) subtracts the group's mean, so only differences within a group matter. `advantage` is
the expectation of GRPO's own advantage up to a constant per group. It is no probability, can exceed 1, and is meant
for methods that subtract the group's mean. docs/rewards.md compares the shapings.

`residual` rewards what the model knows beyond the votes (`memstore_gnn.models.vote_model`). A reward that rises with
the share of an answer only hardens the majority of the policy. If some rollouts of a group are judged, their reward is
the verdict, and the others get the mean of their p plus the residual less its mean. Ground truth and predictions then
have one scale, and the differences among predictions stay those of the residual.

A method that divides by the group's standard deviation treats a difference of .01 like one of .9. `min_spread` prevents
this: a group whose probabilities (or p - v, in `residual`) are closer together gets their mean throughout, which yields
no advantage. Such a group is silent.

Rollouts with the same answer get bitwise equal values; else dividing by the deviation would amplify rounding noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from memstore.errors import InputError
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_rl.rewards.reward import SHAPINGS, Shaping

DECIMALS = 6
"""Decimals of a probability; the model's rounding noise is smaller."""
ROUNDING = 2.5 * 10.0**-DECIMALS
"""Spread of p - v that rounding p and v to `DECIMALS` can make, as a probability."""


class Predicted(NamedTuple):
    """Prediction for one group."""

    probability: FloatVector
    """float64 [N], the probability that each rollout is right."""
    answer: IntVector
    """int64 [N], equal for rollouts with the same answer; unique for a rollout without one."""
    by_votes: FloatVector
    """float64 [N], the probability by the votes of the group alone."""
    vote: IntVector
    """int64 [N], equal for rollouts that vote alike: with the same answer, or in code with the same outcomes."""
    model: str | None = None
    """Id of the reward model."""


@dataclass(frozen=True)
class ShapingSettings:
    """Settings of the shaping.

    Attributes:
        shaping: see the module's docstring.
        min_spread: least spread of a group that is not silent, as a probability; 0 keeps every group that differs.
        residual_weight: factor w of `residual`, above 0.

    Raises:
        InputError: a setting is invalid.
    """

    shaping: Shaping = "probability"
    min_spread: float = 0.0
    residual_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.shaping not in SHAPINGS:
            raise InputError(f"there is no shaping {self.shaping!r}; use one of {', '.join(SHAPINGS)}")
        if not 0.0 <= self.min_spread <= 1.0:
            raise InputError(f"min_spread is {self.min_spread:g}; it must be between 0 and 1")
        if not 0.0 < self.residual_weight < math.inf:
            raise InputError(f"residual_weight is {self.residual_weight:g}; it must be a number above 0")
        if self.residual_weight != 1.0 and self.shaping != "residual":
            raise InputError(f"residual_weight belongs to shaping residual, but shaping is {self.shaping}; remove one")


class Shaped(NamedTuple):
    """Rewards of one group."""

    value: FloatVector
    """float64 [N]; the caller replaces those of judged rollouts."""
    silent: bool
    """Whether the group gets one reward because its spread is too small."""


def shape(predicted: Predicted, settings: ShapingSettings, judged: BoolVector | None = None) -> Shaped:
    """Return the rewards of one group.

    Args:
        predicted: the prediction; the probability of a judged rollout is its verdict, if the verdict is remembered.
        judged: bool [N], rollouts whose reward is a verdict; None: none is.
    """
    if settings.shaping == "residual":
        return _residual(predicted, settings, judged)
    probability = predicted.probability
    if is_flat(probability, settings.min_spread):
        return Shaped(np.full(len(probability), probability.mean()), judged is None or not judged.any())
    return Shaped(_of_probability(probability, predicted.answer, settings.shaping), False)


def _of_probability(probability: FloatVector, answer: IntVector, shaping: Shaping) -> FloatVector:
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


def _residual(predicted: Predicted, settings: ShapingSettings, judged: BoolVector | None) -> Shaped:
    open_ = np.ones(len(predicted.answer), np.bool_) if judged is None else ~judged
    residual = predicted.probability - predicted.by_votes
    flat = is_flat(residual[open_], max(settings.min_spread, ROUNDING))
    if flat:
        residual = np.full(len(residual), residual[open_].mean())
    value = settings.residual_weight * residual
    if not open_.all():
        value = predicted.probability[open_].mean() + value - value[open_].mean()
    return Shaped(value, bool(flat and open_.all()))


def is_flat(values: FloatVector, min_spread: float) -> bool:
    """Whether the values of a group are closer together than `min_spread`."""
    return bool(np.ptp(values) < min_spread)
