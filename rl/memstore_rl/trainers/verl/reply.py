"""Converts a `Reward` to verl's format: a number, and the same keys for every rollout.

verl uses the keys of a batch's first rollout for all of them, averages numbers and skips texts. It cannot represent a
rollout without a reward. So an unscored rollout ends the training or, with `unscored=mean`, gets the mean of the scored
rollouts of its group, which under GRPO is no advantage.

The `verdict_` keys count the pairs of query and answer of mode `verdict`. Each pair counts on one rollout, so the sum
over a batch is the number of its pairs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from memstore.errors import MemstoreError
from memstore_rl.rewards.reward import Group, PairCounts, Reward, pair_counts
from memstore_rl.trainers.verl.group_barrier import Scorer

EXTRA_KEYS = (
    "score",
    "source",
    "from_ground_truth",
    "from_memory",
    "from_model",
    "probability",
    "group_size",
    "group_short",
    "group_silent",
    "verdict_call",
    "verdict_right",
    "verdict_wrong",
    "verdict_remembered",
    "verdict_open",
    "latency_s",
)
"""Keys of `reward_extra_info`, in order."""

Extra = dict[str, float | str]


class Unscored(MemstoreError):
    """A rollout has no reward, which verl cannot represent."""


def reply(reward: Reward) -> Extra:
    """Return the `reward_extra_info` of a reward that has a value."""
    assert reward.value is not None
    pairs = pair_counts([reward]) or PairCounts(0, 0, 0, 0, 0)
    return {
        "score": reward.value,
        "source": reward.source,
        "from_ground_truth": float(reward.source == "ground_truth"),
        "from_memory": float(reward.source == "remembered"),
        "from_model": float(reward.source == "predicted"),
        "probability": math.nan if reward.probability is None else reward.probability,
        "group_size": float(reward.group_size),
        "group_short": float(reward.short),
        "group_silent": float(reward.silent),
        "verdict_call": float(pairs.calls),
        "verdict_right": float(pairs.right),
        "verdict_wrong": float(pairs.wrong),
        "verdict_remembered": float(pairs.remembered),
        "verdict_open": float(pairs.open),
        "latency_s": reward.latency_s,
    }


class CompleteScorer:
    """Wraps a scorer so that every reward has a value, or `Unscored` is raised."""

    def __init__(self, scorer: Scorer, unscored: Literal["fail", "mean"]) -> None:
        self._scorer = scorer
        self._unscored: Literal["fail", "mean"] = unscored

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Return the rewards of the group's rollouts, in order."""
        return complete_rewards(await self._scorer.score_group(group, record=record), self._unscored)


def complete_rewards(rewards: Sequence[Reward], unscored: Literal["fail", "mean"]) -> list[Reward]:
    """Fill in missing values of a group's rewards; a filled reward keeps the source `unscored`.

    Raises:
        Unscored: a value is missing and `unscored` is `fail`, or all values are missing.
    """
    known = [reward.value for reward in rewards if reward.value is not None]
    missing = [reward for reward in rewards if reward.value is None]
    if not missing:
        return list(rewards)
    if unscored == "fail" or not known:
        raise Unscored(
            f"{len(missing)} of {len(rewards)} rollouts of a group have no reward ({missing[0].reason}), which verl "
            "cannot represent; remove such rows, or set memstore.unscored=mean for groups that have some rewards"
        )
    mean = sum(known) / len(known)
    return [replace(reward, value=mean) if reward.value is None else reward for reward in rewards]
