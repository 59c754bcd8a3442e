"""Scores a trainer's batch with the reward service: whole groups in, a number for each rollout out.

Every hook over the service uses `Hook`. Its guarantees:

- A request holds whole groups, by the ids that the trainer gives them, and rewards come in the order of the rows.
- Rows of an evaluation are scored by ground truth only and are not recorded.
- A failure raises. If the service does not respond within the deadline it is `ServiceGone`; no reward is made up.
- Metrics say where the rewards came from (`memstore_rl.trainers.metrics`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple, Self

from memstore.errors import InputError
from memstore_rl.rewards.gauge_reading import GaugeReading, reading_of
from memstore_rl.rewards.reward import Reward
from memstore_rl.service.client import RewardClient
from memstore_rl.trainers.hook_settings import HookSettings, hook_settings
from memstore_rl.trainers.metrics import batch_metrics
from memstore_rl.trainers.rows import Row, SampleNumbers, group_rows
from memstore_rl.trainers.unscored import complete_rewards

_CALLS = 64
"""Requests of asynchronous hooks at a time; further ones wait."""


class GroupRewards(NamedTuple):
    """What a batch is worth."""

    values: list[float]
    """The reward of each rollout, in the order of the rows."""
    rewards: list[Reward]
    """The same with source, probability and reason."""
    metrics: dict[str, float]
    """Numbers about the batch, by name (`memstore_rl.trainers.metrics`)."""


class Hook:
    """A client of the reward service that scores rows; see the module's docstring. Thread-safe."""

    def __init__(self, settings: HookSettings) -> None:
        """Create a hook; nothing is sent yet.

        Raises:
            InputError: the address or the token is invalid.
        """
        self.settings = settings
        self._client = RewardClient(settings.endpoint, token=settings.secret(), deadline_s=settings.deadline_s)
        self._threads = ThreadPoolExecutor(_CALLS, thread_name_prefix="memstore-reward")
        self._numbers = SampleNumbers()

    def score(
        self, rows: Sequence[Row], *, evaluation: bool = False, record: bool = True, group_size: int | None = None
    ) -> GroupRewards:
        """Score a batch of whole groups.

        Args:
            evaluation: score by ground truth only, and record nothing.
            record: whether the service writes the rollouts to its memory.
            group_size: overrides the settings' size of a full group.

        Raises:
            InputError: the rows are not whole groups, or the service cannot score them or does not fit the trainer.
            ServiceGone: the service did not respond before the deadline.
            ServiceError: the service rejected this client or failed.
            Unscored: a rollout has no reward.
        """
        settings = self.settings
        rows = [self._named(row) for row in rows]
        if evaluation:
            grouped, gauge = group_rows(rows, mode="oracle"), None
        else:
            size = group_size or settings.group_size
            grouped = group_rows(rows, size=size, short=settings.short, mode=settings.mode, numbers=self._numbers)
            gauge = self._fitting_service()
        scored = self._client.score_groups(grouped.groups, record=record and not evaluation)
        complete = [
            complete_rewards(
                of_group,
                "fail" if evaluation else settings.unscored,
                group_relative=settings.group_relative,
                setting="MEMSTORE_REWARD_UNSCORED=mean",
            )
            for of_group in scored
        ]
        rewards = grouped.in_order(complete)
        values = [reward.value for reward in rewards if reward.value is not None]
        return GroupRewards(values, rewards, batch_metrics(rewards, gauge))

    async def score_async(
        self, rows: Sequence[Row], *, evaluation: bool = False, record: bool = True, group_size: int | None = None
    ) -> GroupRewards:
        """As `score`, in a thread, so that the event loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: self.score(rows, evaluation=evaluation, record=record, group_size=group_size),
        )

    def _named(self, row: Row) -> Row:
        """The row with the settings' names of policy and run, if it has none of its own."""
        rollout = row.rollout
        policy, run = rollout.policy or self.settings.policy, rollout.run or self.settings.run
        return replace(row, rollout=replace(rollout, policy=policy, run=run))

    def _fitting_service(self) -> GaugeReading | None:
        """Check that the service's rewards fit the trainer; return the figures of its gauge."""
        info: Mapping[str, Any] = self._client.info()
        if info.get("shaping") == "residual" and not self.settings.mean_only:
            raise InputError(
                "the service's shaping is residual, which needs a trainer that subtracts the mean of a group and does "
                "not divide by its standard deviation; set MEMSTORE_REWARD_MEAN_ONLY=true if the trainer does so, or "
                "start the service with another --shaping"
            )
        return reading_of(info)

    def close(self) -> None:
        """Close the connections."""
        self._threads.shutdown()
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def environment_hook(**settings: object) -> Hook:
    """Return the hook of this process for the settings in the environment.

    Args:
        settings: settings that the hook knows from its trainer; the environment does not override them, and None does
            not override the environment.

    Raises:
        InputError: a setting is invalid, or the address is missing.
    """
    return shared_hook(hook_settings(settings))


def shared_hook(settings: HookSettings) -> Hook:
    """Return the hook of this process for these settings; it stays open.

    Raises:
        InputError: the address or the token is invalid.
    """
    return _shared(settings, os.getpid())


@lru_cache(maxsize=8)
def _shared(settings: HookSettings, pid: int) -> Hook:
    """The hook for these settings; a forked process gets its own, because connections cannot be shared."""
    return Hook(settings)
