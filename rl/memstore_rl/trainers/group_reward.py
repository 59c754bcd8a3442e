"""Rewards for a trainer without a hook of its own: one function over the reward service.

    from memstore_rl import group_reward

    scored = group_reward(
        ["what is 2 + 3 ?"] * 4, completions, groups=["g1"] * 4, group_size=4, endpoint="http://127.0.0.1:8731"
    )
    scored.values     # a number for each completion, in order
    scored.metrics    # where they came from

It needs no torch. Calls with the same settings share their connections.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from pydantic import SecretStr

from memstore.errors import InputError
from memstore.text.chat import read_completion, read_prompt
from memstore.types import Domain
from memstore_rl.rewards.reward import Mode, RewardQuery, Rollout
from memstore_rl.trainers.hook import GroupRewards, shared_hook
from memstore_rl.trainers.hook_settings import hook_settings
from memstore_rl.trainers.rows import Row, WhenShort
from memstore_rl.trainers.unscored import WhenUnscored


def group_reward(
    queries: Sequence[object],
    completions: Sequence[object],
    *,
    groups: Sequence[Hashable] | None = None,
    group_size: int | None = None,
    golds: Sequence[str | None] | None = None,
    datasets: str | Sequence[str | None] | None = None,
    domains: Domain | Sequence[Domain | None] | None = None,
    keys: Sequence[str | None] | None = None,
    remember: bool | Sequence[bool] = True,
    endpoint: str | None = None,
    token: str | None = None,
    deadline_s: float | None = None,
    mode: Mode | None = None,
    short: WhenShort | None = None,
    unscored: WhenUnscored | None = None,
    mean_only: bool | None = None,
    policy: str | None = None,
    run: str | None = None,
    step: int | None = None,
    record: bool = True,
    evaluation: bool = False,
) -> GroupRewards:
    """Score completions in whole groups with the reward service.

    Args:
        queries: the query of each completion: a text, also one that a chat template has rendered, or messages.
        completions: one a query: a text, or messages.
        groups: the id of each completion's group, in any order. Two groups of one query need two ids. None: every
            `group_size` completions in a row are a group; without a group size all of them are one.
        group_size: completions in a full group; a smaller one is `short`.
        golds: the gold answer of each query; None or blank where its label is not used.
        datasets, domains, keys: names of the queries, as in `RewardQuery`; one value is that of all.
        remember: whether verdicts of the memory may be used. False where a label budget withholds the label.
        endpoint, token, deadline_s: of the service. Default: `MEMSTORE_REWARD_ENDPOINT`, `MEMSTORE_SERVICE_TOKEN` and
            `MEMSTORE_REWARD_DEADLINE_S`; the other settings have variables too (`memstore_rl.trainers.hook_settings`).
        mode: where the rewards come from; None: the service's mode.
        short: `allow` scores short groups, `refuse` raises.
        unscored: a completion without a reward raises (`fail`), or gets the mean of its group (`mean`).
        mean_only: whether the advantage is the reward less the mean of its group, without a division by the standard
            deviation; a service with shaping `residual` needs it.
        policy, run, step: recorded with the completions.
        record: whether the service writes the completions to its memory.
        evaluation: score by ground truth only, and record nothing.

    Raises:
        InputError: an argument is invalid, or the service cannot score the groups or does not fit the trainer.
        ServiceGone: the service did not respond before the deadline.
        ServiceError: the service rejected this client or failed.
        Unscored: a completion has no reward.
    """
    count = len(completions)
    ids = _group_ids(count, groups, group_size)
    columns = zip(
        ids,
        _column("queries", queries, count),
        completions,
        _column("golds", golds, count),
        _column("datasets", datasets, count),
        _column("domains", domains, count),
        _column("keys", keys, count),
        _column("remember", remember, count),
        strict=True,
    )
    rows = [
        Row(
            group,
            RewardQuery(_query(query, position), dataset, key, domain, gold, bool(may_remember)),
            Rollout(_completion(completion, position), policy=policy, run=run, step=step),
        )
        for position, (group, query, completion, gold, dataset, domain, key, may_remember) in enumerate(columns)
    ]
    settings = hook_settings(
        {
            "endpoint": endpoint,
            "token": None if token is None else SecretStr(token),
            "deadline_s": deadline_s,
            "mode": mode,
            "group_size": group_size,
            "short": short,
            "unscored": unscored,
            "mean_only": mean_only,
        }
    )
    return shared_hook(settings).score(rows, evaluation=evaluation, record=record)


def _group_ids(count: int, groups: Sequence[Hashable] | None, size: int | None) -> Sequence[Hashable]:
    if groups is not None:
        return _column("groups", groups, count)
    if size is None:
        return [0] * count
    if size < 1 or count % size:
        raise InputError(
            f"{count} completions are not groups of {size}; pass whole groups, or the id of each completion's group "
            "with groups"
        )
    return [position // size for position in range(count)]


def _column(name: str, values: object, count: int) -> Sequence[Any]:
    """The value of each row; one value is that of all rows."""
    if values is None or isinstance(values, str | bool):
        return [values] * count
    if not isinstance(values, Iterable):
        raise InputError(f"{name} is a {type(values).__name__}; pass a list with one entry for each completion")
    entries = list(values)
    if len(entries) != count:
        raise InputError(f"{name} has {len(entries)} entries for {count} completions; pass one for each completion")
    return entries


def _query(query: object, position: int) -> str:
    prompt = read_prompt(query)
    if prompt is None or not prompt.query.strip():
        raise InputError(f"query {position} has no text of a user; pass a text or chat messages")
    return prompt.query


def _completion(completion: object, position: int) -> str:
    text = read_completion(completion)
    if text is None:
        raise InputError(
            f"completion {position} is a {type(completion).__name__}; pass a text or chat messages for each completion"
        )
    return text
