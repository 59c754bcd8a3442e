"""The service without its HTTP: a scorer behind a batcher, a journal behind the answers, a recorder behind the journal.

    submit -> batch -> score -> journal (durable) -> answer     the scoring path; scoring and journal have a thread each
                                journal -> memory -> links      the recorder's thread

An answer leaves after its rollouts are in the journal. Where the journal cannot be written, no answer leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from memstore_rl.rewards.reward import Group, Query, Reward, Rollout, record_values
from memstore_rl.service.batching import Batcher
from memstore_rl.service.journal import Entry, Journal
from memstore_rl.service.metrics import Metrics
from memstore_rl.service.wire import GroupIn, ScoreRequest, ScoreResponse

logger = logging.getLogger(__name__)

MAX_BATCH_ROLLOUTS = 512
MAX_WAITING_ROLLOUTS = 16_384


class Scorer(Protocol):
    """What gives rewards: `memstore_rl.rewards.group.GroupScorer`."""

    def score_groups(self, groups: Sequence[Group]) -> list[list[Reward]]:
        """Rewards of each group's rollouts, in their order."""
        ...


class _Scored(NamedTuple):
    group: Group
    rewards: list[Reward]
    record: bool
    recorded: int = 0


class RewardService:
    """Scores requests and remembers them. Use `score` from one event loop, while `run` goes."""

    def __init__(
        self,
        scorer: Scorer,
        journal: Journal | None,
        *,
        max_batch: int = MAX_BATCH_ROLLOUTS,
        max_waiting: int = MAX_WAITING_ROLLOUTS,
    ) -> None:
        """Over an open scorer; without a journal nothing is remembered.

        Args:
            max_batch: rollouts that are scored together at most, unless one request alone has more.
            max_waiting: rollouts that may wait; a request that would go beyond is refused.
        """
        self._scorer = scorer
        self._journal = journal
        self.metrics = Metrics(
            waiting=lambda: self._batcher.waiting, journal=lambda: len(journal) if journal is not None else 0
        )
        self._batcher = Batcher[GroupIn, _Scored](
            self._work,
            max_batch=max_batch,
            max_waiting=max_waiting,
            seal=partial(_journalled, journal) if journal is not None else None,
            on_batch=self.metrics.on_batch,
        )
        self._running: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Does it take requests?"""
        return self._running is not None and not self._running.done()

    def start(self) -> None:
        """Begin to take requests, in the running event loop."""
        self._running = asyncio.create_task(self._batcher.run())

    async def stop(self) -> None:
        """Take no more, and answer those that wait."""
        self._batcher.stop()
        if self._running is not None:
            await self._running
        self._batcher.close()

    async def score(self, request: ScoreRequest) -> ScoreResponse:
        """Rewards of a request's groups.

        Raises:
            Full, Stopping: it was not taken.
            MemstoreError: it cannot be scored, or not be remembered.
        """
        weight = sum(len(group.rollouts) for group in request.groups)
        scored = await self._batcher.submit(request.groups, weight)
        self._count(scored)
        return ScoreResponse([group.rewards for group in scored], sum(group.recorded for group in scored))

    def _count(self, scored: Sequence[_Scored]) -> None:
        self.metrics.groups.inc(len(scored))
        for group in scored:
            self.metrics.short.inc(group.rewards[0].short)
            for reward in group.rewards:
                self.metrics.rewards.labels(reward.source).inc()

    def _work(self, asked: list[GroupIn]) -> list[_Scored]:
        """Score groups; runs in the batcher's first thread."""
        groups = [group.own() for group in asked]
        rewards = self._scorer.score_groups(groups)
        return [_Scored(group, given, one.record) for one, group, given in zip(asked, groups, rewards, strict=True)]


def _journalled(journal: Journal, scored: list[_Scored]) -> list[_Scored]:
    """Put a batch into the journal, in one commit; runs in the batcher's second thread."""
    kept = [entries_of(one.group, one.rewards) if one.record else [] for one in scored]
    new = journal.append([entry for entries in kept for entry in entries])
    done = []
    for one, entries in zip(scored, kept, strict=True):
        own = new.intersection(entry.key for entry in entries)
        new -= own
        done.append(one._replace(recorded=len(own)))
    return done


def entries_of(group: Group, rewards: Sequence[Reward]) -> list[Entry]:
    """What is to be remembered of a scored group: a row for each rollout, with its label or its score."""
    entries = []
    for place, (rollout, reward) in enumerate(zip(group.rollouts, rewards, strict=True)):
        row = json.dumps(_row(group.query, rollout, place, reward), ensure_ascii=False, sort_keys=True)
        key = hashlib.blake2b(row.encode(), digest_size=16).hexdigest()
        entries.append(Entry(key, row, reward.model, reward.probability, reward.value))
    return entries


def _row(query: Query, rollout: Rollout, place: int, reward: Reward) -> dict[str, object]:
    values: dict[str, object] = dict(record_values(query, rollout, place))
    if reward.source == "ground_truth":
        values |= {"gold": query.gold, "reward": reward.value, "reward_source": "ground_truth"}
    return values
