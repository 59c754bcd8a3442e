"""The rollouts of a group wait for each other here, and are scored together once the last one is there.

Plain asyncio: what waits is a future, so any number may wait. Who calls `submit` through something that holds only so
many calls (a Ray actor) has to see to its room by itself.

A group closes when as many rollouts have come as still can come (`leave` says that one will not), or when none has come
for `wait_s`; it is then short, and said to be so. A rollout that comes after its group was closed short is scored with
the others that are late. A group that cannot be scored fails for all its rollouts: nobody gets a number.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout

_REMEMBERED = 10_000
"""Groups closed short whose late rollouts are still told from a new group."""

logger = logging.getLogger(__name__)


class Scorer(Protocol):
    """Scores a group; whatever it raises reaches every rollout of it."""

    async def score_group(self, group: Group, *, record: bool = True) -> Sequence[Reward]:
        """Rewards of the group's rollouts, in their order.

        Args:
            record: the memory may keep them; what scores without writing takes no notice.
        """
        ...


@dataclass
class _Gathering:
    """A group that is not complete."""

    query: RewardQuery | None
    wanted: int
    """Rollouts of a full group."""
    coming: int
    """Rollouts that may still make it, those that are here counted."""
    answer: asyncio.Future[Sequence[Reward]]
    rollouts: list[Rollout] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class GroupBarrier:
    """Where groups gather. Belongs to the event loop that it is used from."""

    def __init__(self, scorer: Scorer, *, wait_s: float) -> None:
        self._scorer = scorer
        self._wait_s = wait_s
        self._open: dict[str, _Gathering] = {}
        self._late: OrderedDict[str, int] = OrderedDict()
        self._scoring: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Rollouts whose group is not complete."""
        return sum(len(gathering.rollouts) for gathering in self._open.values())

    async def submit(self, key: str, wanted: int, query: RewardQuery, rollout: Rollout) -> Reward:
        """Wait for the reward of one rollout.

        Args:
            key: what its siblings have in common with it and with nobody else.
            wanted: how many rollouts a full group has.
        """
        gathering = self._gathering(key, wanted)
        gathering.query = query
        place = len(gathering.rollouts)
        gathering.rollouts.append(rollout)
        self._advance(key, gathering)
        return (await asyncio.shield(gathering.answer))[place]

    def leave(self, key: str, wanted: int) -> None:
        """One rollout of this group will not come."""
        gathering = self._gathering(key, wanted)
        gathering.coming -= 1
        self._advance(key, gathering)

    def _gathering(self, key: str, wanted: int) -> _Gathering:
        gathering = self._open.get(key)
        if gathering is None:
            coming = self._late.pop(key, wanted)
            gathering = _Gathering(None, wanted, coming, asyncio.get_running_loop().create_future())
            self._open[key] = gathering
        return gathering

    def _advance(self, key: str, gathering: _Gathering) -> None:
        if gathering.timer is not None:
            gathering.timer.cancel()
        if len(gathering.rollouts) >= gathering.coming:
            self._close(key, gathering)
        else:
            gathering.timer = asyncio.get_running_loop().call_later(self._wait_s, self._time_out, key, gathering)

    def _time_out(self, key: str, gathering: _Gathering) -> None:
        missing = gathering.coming - len(gathering.rollouts)
        logger.warning("a group is short: %d of %d rollouts did not come", missing, gathering.wanted)
        self._late[key] = missing
        while len(self._late) > _REMEMBERED:
            self._late.popitem(last=False)
        self._close(key, gathering)

    def _close(self, key: str, gathering: _Gathering) -> None:
        del self._open[key]
        if gathering.rollouts:
            task = asyncio.create_task(self._score(gathering))
            self._scoring.add(task)
            task.add_done_callback(self._scoring.discard)

    async def _score(self, gathering: _Gathering) -> None:
        assert gathering.query is not None
        group = Group(gathering.query, gathering.rollouts, gathering.wanted)
        try:
            gathering.answer.set_result(await self._scorer.score_group(group))
        except Exception as error:
            gathering.answer.set_exception(error)
