"""Rewards without a value, for trainers that need a number for every rollout.

An unscored rollout ends the training or, with `unscored=mean`, gets the mean of the scored rollouts of its group, which
is no advantage where the advantage is relative to the group. A rollout whose prediction the gauge withheld
(`memstore_rl.rewards.gauge`) gets this mean in any case, or 0 if no rollout of its group is scored. Where the advantage
is not relative to the group, it ends the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from memstore.errors import MemstoreError
from memstore_rl.rewards.reward import Reward

WhenUnscored: TypeAlias = Literal["fail", "mean"]
"""What happens to a rollout without a reward."""


class Unscored(MemstoreError):
    """A rollout has no reward, and the trainer needs one."""


def complete_rewards(
    rewards: Sequence[Reward],
    unscored: WhenUnscored,
    *,
    group_relative: bool = True,
    setting: str = "unscored=mean",
) -> list[Reward]:
    """Fill in missing values of a group's rewards; a filled reward keeps the source `unscored`.

    Args:
        group_relative: whether one value for a whole group is no advantage.
        setting: what to set to `mean`, for the error.

    Raises:
        Unscored: a value is missing, the gauge did not withhold it, and `unscored` is `fail` or all values are missing;
            or the gauge withheld it and one value for a group is an advantage.
    """
    known = [reward.value for reward in rewards if reward.value is not None]
    missing = [reward for reward in rewards if reward.value is None]
    if not missing:
        return list(rewards)
    if all(reward.withheld for reward in missing):
        if not group_relative:
            raise Unscored(
                "the gauge withholds predictions, and the trainer's advantage is not relative to a group, so no value "
                "can replace them; start the service with --when-harmful warn, or train in mode budget"
            )
        unscored, known = "mean", known or [0.0]
    if unscored == "fail" or not known:
        raise Unscored(
            f"{len(missing)} of {len(rewards)} rollouts of a group have no reward ({missing[0].reason}), and the "
            f"trainer needs a number for each; remove such rows, or set {setting} for groups that have some rewards"
        )
    mean = sum(known) / len(known)
    return [replace(reward, value=mean) if reward.value is None else reward for reward in rewards]
