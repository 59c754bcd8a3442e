"""Rewards of whole groups for slime.

    --group-rm
    --custom-rm-path memstore_rl.trainers.slime.group_rewards
    --custom-rollout-log-function-path memstore_rl.trainers.slime.log_rollout
    --eval-function-path memstore_rl.trainers.slime.evaluate

slime calls `group_rewards` with the samples of a group when all of them are generated, and a failure of it ends the
training. slime refuses `--group-rm` in its evaluation, so `evaluate` runs it without, and `group_rewards` then gets one
sample at a time. It tells training from evaluation by the split of a row, which `memstore verl data` writes.

The hook imports nothing of slime, except `evaluate`. `memstore_rl.trainers.miles` is the same for miles.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Sequence
from typing import Any

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.reward import Rollout
from memstore_rl.trainers.hook import GroupRewards, Hook, environment_hook
from memstore_rl.trainers.metrics import reward_metrics
from memstore_rl.trainers.rows import Row, labelled_query, row_facts
from memstore_rl.trainers.verl.rows import is_training

METRICS = "memstore"
"""Key of a sample's metadata with the metrics of its reward, and prefix of their means in the log."""
_LESS_THE_MEAN = ("grpo", "gspo", "cispo", "reinforce_plus_plus_baseline")
"""Estimators that subtract the mean of a group where `--disable-rewards-normalization` is not given."""

logger = logging.getLogger(__name__)


async def group_rewards(args: Any, samples: Any, **kwargs: Any) -> Any:
    """Score a group for `--custom-rm-path`; or, in an evaluation, one sample.

    Args:
        args: slime's arguments.
        samples: the list of a group's samples, or one sample.

    Returns:
        The rewards in the order of the samples; for one sample, its reward.

    Raises:
        InputError: a sample of the training comes alone, or a sample is itself a list.
        MemstoreError: the group cannot be scored.
    """
    return await score_samples(args, samples, _LESS_THE_MEAN)


async def score_samples(args: Any, samples: Any, less_the_mean: Collection[str]) -> Any:
    """As `group_rewards`, for a trainer with these estimators that subtract the mean of a group."""
    hook = _hook(args, less_the_mean)
    if not isinstance(samples, list):
        if is_training(row_facts(samples.label, samples.metadata).extra_info):
            raise InputError("one rollout of a training group came alone, so its group is unknown; add --group-rm")
        return (await _score(hook, args, [samples], evaluation=True)).values[0]
    if any(isinstance(sample, list) for sample in samples):
        raise InputError("a rollout was split into several samples, which memstore cannot score; generate one for each")
    return (await _score(hook, args, samples, evaluation=False)).values


def log_rollout(
    rollout_id: int, args: Any, samples: Sequence[Any], rollout_extra_metrics: dict[str, Any] | None, *rest: Any
) -> bool:
    """Add the sources of the rewards to the metrics that slime logs, for `--custom-rollout-log-function-path`."""
    means = _means(samples)
    if rollout_extra_metrics is None:
        logger.info("rollout %s: %s", rollout_id, means)
    else:
        rollout_extra_metrics |= means
    return False  # slime logs them with its own


def evaluate(args: Any, rollout_id: int, data_source: Any, evaluation: bool = True) -> Any:
    """Run slime's evaluation without `--group-rm`, for `--eval-function-path`."""
    from slime.rollout.sglang_rollout import generate_rollout

    return generate_rollout(without_group_rm(args), rollout_id, data_source, evaluation=evaluation)


def without_group_rm(args: Any) -> Any:
    """A copy of the arguments without `--group-rm`."""
    changed = copy.copy(args)
    changed.group_rm = False
    return changed


def _hook(args: Any, less_the_mean: Collection[str]) -> Hook:
    relative = args.advantage_estimator in less_the_mean and args.rewards_normalization
    divided = args.grpo_std_normalization and args.advantage_estimator != "reinforce_plus_plus_baseline"
    return environment_hook(group_relative=relative, mean_only=relative and not divided)


async def _score(hook: Hook, args: Any, samples: Sequence[Any], *, evaluation: bool) -> GroupRewards:
    rows = [_row(args, sample) for sample in samples]
    scored = await hook.score_async(rows, evaluation=evaluation, group_size=args.n_samples_per_prompt)
    for sample, reward in zip(samples, scored.rewards, strict=True):
        sample.metadata = {**(sample.metadata or {}), METRICS: reward_metrics(reward)}
    return scored


def _row(args: Any, sample: Any) -> Row:
    rollout = Rollout(
        response=plain_output(sample.response),
        policy=getattr(args, "hf_checkpoint", None),
        step=_weight_version(sample),
        sample_index=sample.index,
        finish_reason=sample.status.value,
    )
    return Row(sample.group_index, labelled_query(sample.prompt, sample.label, sample.metadata), rollout)


def _weight_version(sample: Any) -> int | None:
    """The number of the weights that wrote a sample last; None if the engine does not count them."""
    version = str(sample.weight_versions[-1]) if sample.weight_versions else ""
    return int(version) if version.isdecimal() else None


def _means(samples: Sequence[Any]) -> dict[str, float]:
    """The means of the metrics over the samples that have them."""
    found = [sample.metadata[METRICS] for sample in samples if METRICS in (sample.metadata or {})]
    names = found[0] if found else {}
    return {f"{METRICS}/{name}": sum(one[name] for one in found) / len(found) for name in names}
