"""Batch reward function for verl 0.7.0 and earlier, whose `batch` manager passes a whole batch at once.

    reward_model.reward_manager=batch
    custom_reward_function.path=<this file>          verl 0.5 and 0.6 take a path and no module
    custom_reward_function.name=compute_score_batch

These versions pin numpy below 2, and a memory needs numpy 2, so this module calls the reward service and needs only
httpx, pydantic and tenacity. verl passes no prompts to the function; they are read from the data files by query id. An
incomplete group (`rollout.mode=async` of 0.6 calls the function with one rollout) is rejected, because its reward
would be wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.gauge_reading import GaugeReading, reading_of
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.service.client import RewardClient, ServiceGone
from memstore_rl.service.wire import MAX_GROUPS
from memstore_rl.trainers.unscored import complete_rewards
from memstore_rl.trainers.verl.reply import UNSCORED_SETTING, Extra, reply
from memstore_rl.trainers.verl.rows import is_training, query_of
from memstore_rl.trainers.verl.settings import (
    HookSettings,
    check_service_shaping,
    is_mean_only,
    is_relative,
    parse_settings,
)
from memstore_rl.trainers.verl.token import read_token

_GROUPS_A_REQUEST = 64

logger = logging.getLogger(__name__)


def compute_score_batch(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[str | None],
    extra_infos: Sequence[Mapping[str, Any]],
    *,
    files: Sequence[str],
    n: int,
    policy: str | None = None,
    adv_estimator: str = "",
    norm_adv_by_std: bool = True,
    **settings: Any,
) -> list[Extra]:
    """Return the rewards of a batch, in order, for verl's `batch` manager.

    Args:
        files: the Parquet files of `memstore verl data` that verl trains and validates on.
        n: number of rollouts in a training group.
        policy: name of the policy that wrote the rollouts.
        adv_estimator, norm_adv_by_std: of verl's `algorithm`, to refuse a service whose shaping does not fit it, and to
            end the training if the gauge withholds predictions and no value can replace them.
        settings: settings of `memstore_rl.trainers.verl.settings` without their prefix; `endpoint` is required.

    Raises:
        InputError: a setting is invalid, a row is in none of the files, a training group is incomplete, or the
            service's shaping is `residual` and verl divides by the standard deviation of a group.
        ServiceGone: the service does not respond, and `when_gone` is `fail`.
        Unscored: a rollout has no reward.
    """
    hook = parse_settings({"group_relative": is_relative(adv_estimator), **settings})
    if hook.endpoint is None:
        raise InputError("this version of verl needs the reward service; set endpoint to its address")
    prompts = _prompts(tuple(files))
    groups, group_rows = [], []
    for rows in _group_rows(extra_infos, n):
        extra = extra_infos[rows[0]]
        query = query_of(
            _prompt(prompts, extra),
            str(data_sources[rows[0]]),
            {"ground_truth": ground_truths[rows[0]]},
            extra,
        )
        rollouts = [Rollout(response=plain_output(solution_strs[row]), policy=policy, run=hook.run) for row in rows]
        groups.append(_group(query, rollouts, training=is_training(extra), n=n, hook=hook))
        group_rows.append(rows)
    replies: dict[int, Extra] = {}
    fits = hook.mode != "memory" or is_mean_only(adv_estimator, norm_adv_by_std)
    # verl never mixes training and validation
    scored, gauge = _score(groups, hook, fits, record=is_training(extra_infos[0]))
    for rows, rewards in zip(group_rows, scored, strict=True):
        complete = complete_rewards(
            rewards, hook.unscored, group_relative=hook.group_relative, setting=UNSCORED_SETTING
        )
        replies.update((row, reply(reward, gauge)) for row, reward in zip(rows, complete, strict=True))
    return [replies[row] for row in range(len(solution_strs))]


def _group_rows(extra_infos: Sequence[Mapping[str, Any]], n: int) -> list[list[int]]:
    """Group the rows of each training query, n at a time; a validation row is a group of its own."""
    by_query: dict[str, list[int]] = {}
    for position, extra in enumerate(extra_infos):
        by_query.setdefault(str(extra["query_id"]), []).append(position)
    groups = []
    for rows in by_query.values():
        size = n if is_training(extra_infos[rows[0]]) else 1
        groups += [rows[start : start + size] for start in range(0, len(rows), size)]
    return groups


def _group(query: RewardQuery, rollouts: Sequence[Rollout], *, training: bool, n: int, hook: HookSettings) -> Group:
    if not training:
        return Group(query, rollouts, mode="oracle")
    if len(rollouts) != n:
        raise InputError(
            f"verl passed {len(rollouts)} of the {n} rollouts of a group; set actor_rollout_ref.rollout.mode=sync "
            "(verl 0.5, 0.6) or reward_model.use_reward_loop=False (verl 0.7.0)"
        )
    return Group(query, rollouts, n, hook.mode)


def _score(
    groups: Sequence[Group], hook: HookSettings, fits_any_shaping: bool, *, record: bool
) -> tuple[list[list[Reward]], GaugeReading | None]:
    """Score groups; the gauge is read before."""
    assert hook.endpoint is not None
    rewards: list[list[Reward]] = []
    # A request without a step is a step of its own, so the budget of mode verdict needs the whole batch in one.
    size = MAX_GROUPS if hook.mode == "verdict" else _GROUPS_A_REQUEST
    gauge: GaugeReading | None = None
    with RewardClient(hook.endpoint, token=read_token(hook.token_file), deadline_s=hook.deadline_s) as client:
        while len(rewards) < len(groups):
            part = groups[len(rewards) : len(rewards) + size]
            try:
                info = client.info()
                if not fits_any_shaping:
                    check_service_shaping(info)
                gauge = gauge or reading_of(info)
                rewards += client.score_groups(part, record=record)
            except ServiceGone as gone:
                if hook.when_gone == "fail":
                    raise
                logger.warning("%s; the training waits for it (when_gone=wait)", gone)
    return rewards, gauge


def _prompt(prompts: Mapping[str, Any], extra: Mapping[str, Any]) -> Any:
    try:
        return prompts[str(extra["query_id"])]
    except KeyError:
        raise InputError(
            f"the query {extra.get('query_id')} is in none of the files of custom_reward_function.reward_kwargs.files; "
            "name the files that verl trains and validates on"
        ) from None


@cache
def _prompts(files: tuple[str, ...]) -> dict[str, Any]:
    """Read the chat messages of each query id."""
    import pyarrow.parquet as pq

    found: dict[str, Any] = {}
    for file in files:
        for row in pq.read_table(file, columns=["prompt", "extra_info"]).to_pylist():
            found[row["extra_info"]["query_id"]] = row["prompt"]
    return found
