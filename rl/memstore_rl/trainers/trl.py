"""A reward function for TRL's `GRPOTrainer`: groups at once, ground truth where the row has it, the model elsewhere.

    from datasets import Dataset
    from memstore_rl.rewards.group import GroupScorer
    from memstore_rl.trainers.trl import reward_function

    with GroupScorer.open("my-memory") as scorer:
        GRPOTrainer(
            model=...,
            args=GRPOConfig(num_generations=8, scale_rewards="none", ...),
            reward_funcs=reward_function(scorer, num_generations=8),
            train_dataset=Dataset.from_parquet("data/train_memory_20.parquet"),
        ).train()

The data are those of `memstore verl data`, whose columns TRL hands to the function. A group is what has the same
`extra_info.query_id`, not what stands together: TRL passes no group, and a batch may hold a query twice. Its rollouts
are complete_rewards on, so that what a service records of the second group is not taken for the first again.

`scale_rewards="none"`: over the group's deviation a prediction that hardly tells two rollouts apart counts as much as a
sure one (docs/rewards.md has what that costs).

An unscored rollout is None, which TRL leaves out of the group's mean and gives no advantage. Rows of another split than
`train` (an evaluation) are scored by ground truth alone, and not recorded. A service that does not answer raises, or is
waited for; it is never a number.

With several processes TRL calls the function in each, with that process's completions: keep
`per_device_train_batch_size` a multiple of `num_generations`, or groups are short. They are counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from memstore.errors import InputError
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import MODES, Group, Mode, Reward, Rollout
from memstore_rl.service.client import RewardClient, ServiceGone
from memstore_rl.trainers.verl.rows import is_training, query_of

Messages: TypeAlias = Sequence[Mapping[str, Any]]
RewardFunction: TypeAlias = Callable[..., list[float | None]]

NAME = "memstore"
"""As TRL calls the function in its metrics: `rewards/memstore/mean`."""

logger = logging.getLogger(__name__)


def reward_function(
    scorer: GroupScorer | RewardClient,
    *,
    num_generations: int | None = None,
    mode: Mode | None = None,
    policy: str | None = None,
    run: str | None = None,
    when_gone: Literal["fail", "wait"] = "fail",
) -> RewardFunction:
    """What `GRPOTrainer` takes as `reward_funcs`; see the module.

    Args:
        scorer: over a memory in this process, or a client of the reward service.
        num_generations: as in `GRPOConfig`; a group of fewer is counted as short. None: no group is short.
        mode: overrides the scorer's for training rows.
        policy, run: names that the service records the rollouts under.
        when_gone: a service that does not answer ends the training, or is waited for.

    Raises:
        InputError: what is no scorer, a group of no rollouts, a mode or a `when_gone` that there is not.
    """
    _check(scorer, num_generations, mode, when_gone)

    def memstore(
        prompts: Sequence[str | Messages],
        completions: Sequence[str | Messages],
        data_source: Sequence[str] | None = None,
        reward_model: Sequence[Mapping[str, Any]] | None = None,
        extra_info: Sequence[Mapping[str, Any]] | None = None,
        trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        if data_source is None or reward_model is None or extra_info is None:
            raise InputError(
                "the data set lacks one of the columns data_source, reward_model and extra_info, or TRL took it out "
                "(remove_unused_columns); write the data with `memstore verl data`"
            )
        step = None if trainer_state is None else int(trainer_state.global_step)
        gathered = _gathered(extra_info, num_generations)
        groups = []
        for places in gathered:
            first = places[0].row
            query = query_of(_messages(prompts[first]), data_source[first], reward_model[first], extra_info[first])
            rollouts = [
                Rollout(response=_said(completions[row]), policy=policy, run=run, step=step, sample_index=sample)
                for row, sample in places
            ]
            training = is_training(extra_info[first])
            groups.append(Group(query, rollouts, num_generations if training else None, mode if training else "oracle"))
        training = all(map(is_training, extra_info))
        rewards: list[Reward | None] = [None] * len(completions)
        for places, scored in zip(gathered, _asked(scorer, groups, training, when_gone), strict=True):
            for place, reward in zip(places, scored, strict=True):
                rewards[place.row] = reward
        return _told([reward for reward in rewards if reward is not None], log_extra, log_metric)

    memstore.__name__ = NAME
    return memstore


def _check(scorer: object, num_generations: int | None, mode: str | None, when_gone: str) -> None:
    if not isinstance(scorer, GroupScorer | RewardClient):
        raise InputError(f"{type(scorer).__name__} gives no rewards to TRL; hand over a GroupScorer or a RewardClient")
    if num_generations is not None and num_generations < 1:
        raise InputError(f"a group of {num_generations} rollouts cannot be; pass GRPOConfig's num_generations")
    if mode is not None and mode not in MODES:
        raise InputError(f"there is no mode {mode!r}; there are {', '.join(MODES)}")
    if when_gone not in ("fail", "wait"):
        raise InputError(f"when_gone cannot be {when_gone!r}; there are fail and wait")


class _Place(NamedTuple):
    """Where a rollout stands in the call, and which of its query's rollouts in it this is."""

    row: int
    sample: int


def _gathered(extra_info: Sequence[Mapping[str, Any]], size: int | None) -> list[list[_Place]]:
    """The places of each group: the rows of one query, at most `size` at a time."""
    by_query: dict[str, list[_Place]] = {}
    for row, extra in enumerate(extra_info):
        if not extra.get("query_id"):
            raise InputError(
                "a row has no extra_info.query_id, so its group is not known; write the data with `memstore verl data`"
            )
        places = by_query.setdefault(str(extra["query_id"]), [])
        places.append(_Place(row, len(places)))
    gathered = []
    for places in by_query.values():
        step = size or len(places)
        gathered += [places[start : start + step] for start in range(0, len(places), step)]
    return gathered


def _asked(
    scorer: GroupScorer | RewardClient, groups: Sequence[Group], record: bool, when_gone: Literal["fail", "wait"]
) -> list[list[Reward]]:
    if isinstance(scorer, GroupScorer):
        return scorer.score_groups(groups)
    while True:
        try:
            return scorer.score_groups(groups, record=record)
        except ServiceGone as gone:
            if when_gone == "fail":
                raise
            logger.warning("%s; the training waits for it (when_gone='wait')", gone)


def _told(
    rewards: Sequence[Reward],
    log_extra: Callable[[str, list[Any]], None] | None,
    log_metric: Callable[[str, float], None] | None,
) -> list[float | None]:
    """The numbers, after what TRL logs was logged."""
    if log_extra is not None:
        log_extra("source", [reward.source for reward in rewards])
        log_extra("probability", [reward.probability for reward in rewards])
    if log_metric is not None:
        for source in ("ground_truth", "predicted", "unscored"):
            share = sum(reward.source == source for reward in rewards) / len(rewards)
            log_metric(f"memstore/{source}_share", share)
        log_metric("memstore/short_share", sum(reward.short for reward in rewards) / len(rewards))
        predicted = [reward.probability for reward in rewards if reward.probability is not None]
        if predicted:
            log_metric("memstore/probability", sum(predicted) / len(predicted))
        log_metric("memstore/latency_s", sum(reward.latency_s for reward in rewards) / len(rewards))
    return [reward.value for reward in rewards]


def _messages(prompt: str | Messages) -> Messages:
    """A prompt as messages; a plain text is the user's."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _said(completion: str | Messages) -> str:
    """What the policy wrote: the text, or what the assistant says in the messages."""
    if isinstance(completion, str):
        return completion
    return "\n".join(str(message["content"]) for message in completion if message.get("role") == "assistant")
