"""Group barrier: rollouts wait for their group and are scored together when the last one arrives.

Waiting uses asyncio futures, so any number of rollouts may wait. A caller that reaches `submit` through something with
a limit of concurrent calls (a Ray actor) must make sure that the limit is high enough.

A group closes when all rollouts that can still arrive have arrived (`leave` removes one), or when none has arrived for
`wait_s`; it is then flagged as short. Rollouts that arrive after that are scored together. If a group cannot be scored,
all its rollouts get the error; none gets a number.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memstore_rl.rewards.gauge_reading import GaugeReading
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout

_MAX_SHORT_GROUPS = 10_000
"""Number of short groups to remember, to distinguish their late rollouts from a new group."""

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """Scores a group; an exception reaches every rollout of the group."""

    async def score_group(self, group: Group, *, record: bool = True) -> Sequence[Reward]:
        """Return the rewards of the group's rollouts, in order.

        Args:
            record: whether the rollouts may be written to the memory; ignored by scorers that write nothing.
        """
        ...

    async def gauge(self) -> GaugeReading | None:
        """Return the figures of the gauge; None if there is none."""
        ...


@dataclass
class _PendingGroup:
    """An incomplete group."""

    query: RewardQuery | None
    size: int
    """Number of rollouts in the full group."""
    expected: int
    """Number of rollouts expected to arrive, including those that have."""
    answer: asyncio.Future[Sequence[Reward]]
    rollouts: list[Rollout] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class GroupBarrier:
    """Collects rollouts into groups. Use it from one event loop."""

    def __init__(self, scorer: Scorer, *, wait_s: float) -> None:
        self._scorer = scorer
        self._wait_s = wait_s
        self._open: dict[str, _PendingGroup] = {}
        self._late: OrderedDict[str, int] = OrderedDict()
        self._scoring: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Number of rollouts whose group is incomplete."""
        return sum(len(pending.rollouts) for pending in self._open.values())

    async def submit(self, key: str, size: int, query: RewardQuery, rollout: Rollout) -> Reward:
        """Add a rollout to its group and wait for its reward.

        Args:
            key: identifies the group.
            size: number of rollouts in the full group.
        """
        pending = self._pending(key, size)
        pending.query = query
        index = len(pending.rollouts)
        pending.rollouts.append(rollout)
        self._advance(key, pending)
        return (await asyncio.shield(pending.answer))[index]

    def leave(self, key: str, size: int) -> None:
        """Remove a rollout that will not arrive from its group."""
        pending = self._pending(key, size)
        pending.expected -= 1
        self._advance(key, pending)

    def _pending(self, key: str, size: int) -> _PendingGroup:
        pending = self._open.get(key)
        if pending is None:
            expected = self._late.pop(key, size)
            pending = _PendingGroup(None, size, expected, asyncio.get_running_loop().create_future())
            self._open[key] = pending
        return pending

    def _advance(self, key: str, pending: _PendingGroup) -> None:
        if pending.timer is not None:
            pending.timer.cancel()
        if len(pending.rollouts) >= pending.expected:
            self._close(key, pending)
        else:
            pending.timer = asyncio.get_running_loop().call_later(self._wait_s, self._time_out, key, pending)

    def _time_out(self, key: str, pending: _PendingGroup) -> None:
        missing = pending.expected - len(pending.rollouts)
        logger.warning("a group is short: %d of %d rollouts did not arrive", missing, pending.size)
        self._late[key] = missing
        while len(self._late) > _MAX_SHORT_GROUPS:
            self._late.popitem(last=False)
        self._close(key, pending)

    def _close(self, key: str, pending: _PendingGroup) -> None:
        del self._open[key]
        if pending.rollouts:
            task = asyncio.create_task(self._score(pending))
            self._scoring.add(task)
            task.add_done_callback(self._scoring.discard)

    async def _score(self, pending: _PendingGroup) -> None:
        assert pending.query is not None
        group = Group(pending.query, pending.rollouts, pending.size)
        try:
            pending.answer.set_result(await self._scorer.score_group(group))
        except Exception as error:
            pending.answer.set_exception(error)
