"""Rewards of whole groups for miles.

    --group-rm
    --custom-rm-path memstore_rl.trainers.miles.group_rewards
    --custom-rollout-log-function-path memstore_rl.trainers.miles.log_rollout
    --eval-function-path memstore_rl.trainers.miles.Evaluation

miles calls the same functions as slime (`memstore_rl.trainers.slime`). Its rollout functions are classes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from memstore_rl.trainers.slime import log_rollout, score_samples, without_group_rm

__all__ = ["Evaluation", "group_rewards", "log_rollout"]

_LESS_THE_MEAN = ("grpo", "gspo", "reinforce_plus_plus_baseline")
"""Estimators that subtract the mean of a group where `--disable-rewards-normalization` is not given."""


async def group_rewards(args: Any, samples: Any, **kwargs: Any) -> Any:
    """Score a group, or one sample of an evaluation, for `--custom-rm-path`; see `memstore_rl.trainers.slime`."""
    return await score_samples(args, samples, _LESS_THE_MEAN)


class Evaluation:
    """miles' own evaluation without `--group-rm`, which it refuses there; for `--eval-function-path`."""

    def __init__(self, input: Any) -> None:
        from miles.rollout.inference_rollout.inference_rollout_common import InferenceRolloutFn

        self._run = InferenceRolloutFn(replace(input, args=without_group_rm(input.args)))

    async def __call__(self, input: Any) -> Any:
        """Run the evaluation."""
        return await self._run(input)
