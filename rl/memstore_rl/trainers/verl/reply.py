"""A `Reward` as verl wants it: a number, and the same keys for every rollout.

verl takes the keys of a batch's first rollout for all of them, averages what is a number and skips what is text. There
is no way to tell verl that a rollout has no reward, so one that is unscored must not get this far as a number: it ends
the training, or by setting gets the mean of its scored siblings, which under GRPO is no advantage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from memstore.errors import MemstoreError
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.trainers.verl.group_barrier import Scorer

EXTRA_KEYS = (
    "score",
    "source",
    "from_ground_truth",
    "from_model",
    "probability",
    "group_size",
    "group_short",
    "latency_s",
)
"""Keys of `reward_extra_info`, in this order."""

Extra = dict[str, float | str]


class Unscored(MemstoreError):
    """A rollout has no reward, and verl has no word for that."""


def reply(reward: Reward) -> Extra:
    """What verl keeps of a reward that has a number."""
    assert reward.value is not None
    return {
        "score": reward.value,
        "source": reward.source,
        "from_ground_truth": float(reward.source == "ground_truth"),
        "from_model": float(reward.source == "predicted"),
        "probability": math.nan if reward.probability is None else reward.probability,
        "group_size": float(reward.group_size),
        "group_short": float(reward.short),
        "latency_s": reward.latency_s,
    }


class CompleteScorer:
    """A scorer whose rewards all have a number, or which raises `Unscored`."""

    def __init__(self, scorer: Scorer, unscored: Literal["fail", "mean"]) -> None:
        self._scorer = scorer
        self._unscored: Literal["fail", "mean"] = unscored

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Rewards of the group's rollouts, in their order."""
        return complete_rewards(await self._scorer.score_group(group, record=record), self._unscored)


def complete_rewards(rewards: Sequence[Reward], unscored: Literal["fail", "mean"]) -> list[Reward]:
    """A group's rewards with a number each; one that got the mean still says that it is unscored.

    Raises:
        Unscored: one of them has none, and may not have the mean of the others, or there are no others.
    """
    known = [reward.value for reward in rewards if reward.value is not None]
    missing = [reward for reward in rewards if reward.value is None]
    if not missing:
        return list(rewards)
    if unscored == "fail" or not known:
        raise Unscored(
            f"{len(missing)} of {len(rewards)} rollouts of a group have no reward ({missing[0].reason}), and verl has "
            "no word for that: leave such rows out, or set memstore.unscored=mean for groups that have some rewards"
        )
    mean = sum(known) / len(known)
    return [replace(reward, value=mean) if reward.value is None else reward for reward in rewards]
