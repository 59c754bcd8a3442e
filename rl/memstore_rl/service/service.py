"""The reward service without HTTP: scorer, batcher and journal.

    verify -> batch -> score -> journal (durable) -> response   scoring and journal have one thread each
                                journal -> memory -> links      the recorder's thread

Requests with gold answers are verified in threads of their own before they are batched: running programs and comparing
formulas takes seconds if a policy wrote expensive ones, and other requests must not wait for them. The threads and the
worker processes are shared fairly between clients (`memstore_rl.service.clients`).

A response is returned after its rollouts are in the journal. If the journal cannot be written, the request fails.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol

from memstore.runtime.fair_queue import CpuAccount, charged_to
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout, record_values
from memstore_rl.rewards.tasks import VerifiedGroup
from memstore_rl.service.batching import Batcher, QueueFull
from memstore_rl.service.clients import SHARE, ClientKey, Clients
from memstore_rl.service.journal import Entry, Journal
from memstore_rl.service.metrics import Metrics
from memstore_rl.service.wire import GroupIn, ScoreRequest, ScoreResponse

logger = logging.getLogger(__name__)

MAX_BATCH_ROLLOUTS = 512
"""Rollouts that the model scores together at most."""
MAX_WAITING_ROLLOUTS = 16_384
"""Rollouts that wait at most; requests beyond get status 503."""
MAX_VERIFYING = 256
"""Requests that are verified at the same time. The threads wait for worker processes."""


class Scorer(Protocol):
    """Scores groups in two steps; implemented by `memstore_rl.rewards.group.GroupScorer`."""

    def verify(self, groups: Sequence[Group]) -> list[VerifiedGroup]:
        """Validate groups and verify those with a gold answer. Called in several threads at a time."""
        ...

    def score_verified(self, groups: Sequence[VerifiedGroup]) -> list[list[Reward]]:
        """Return the rewards of each group's rollouts, in order."""
        ...

    def mark_recorded(self, groups: Sequence[VerifiedGroup], rewards: Sequence[Sequence[Reward]]) -> None:
        """Note that these rewards are stored for good."""
        ...


class _Verified(NamedTuple):
    request: GroupIn
    group: Group
    verified: VerifiedGroup


class _Scored(NamedTuple):
    group: Group
    verified: VerifiedGroup
    rewards: list[Reward]
    record: bool
    recorded: int = 0


class RewardService:
    """Scores and records requests. Call `score` from one event loop, between `start` and `stop`."""

    def __init__(
        self,
        scorer: Scorer,
        journal: Journal | None,
        *,
        max_batch: int = MAX_BATCH_ROLLOUTS,
        max_waiting: int = MAX_WAITING_ROLLOUTS,
        model: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Create a service over an open scorer.

        Args:
            scorer: gives the rewards.
            journal: where scored rollouts are recorded; None: they are not.
            max_batch: maximum rollouts scored together; a single larger request is still scored.
            max_waiting: maximum waiting rollouts; a request beyond is rejected, but for requests in verification that
                keep their client within a quarter of it.
            model: returns the id of the reward model in use, to whose scores remembered verdicts are recorded.
        """
        self._scorer = scorer
        self._journal = journal
        self.metrics = Metrics(
            waiting=lambda: self._batcher.waiting, journal=lambda: len(journal) if journal is not None else 0
        )
        self._batcher = Batcher[_Verified, _Scored](
            self._score_batch,
            max_batch=max_batch,
            max_waiting=max_waiting,
            commit=partial(self._append_to_journal, journal, model) if journal is not None else None,
            on_batch=self.metrics.on_batch,
        )
        self.on_groups: Callable[[Sequence[GroupIn]], None] | None = None
        """Called with the groups of a valid request before they are scored."""
        self._running: asyncio.Task[None] | None = None
        self._max_waiting = max_waiting
        self._clients = Clients(MAX_VERIFYING)
        self._verify_threads = ThreadPoolExecutor(MAX_VERIFYING, thread_name_prefix="memstore-verify")

    @property
    def ready(self) -> bool:
        """Whether the service accepts requests."""
        return self._running is not None and not self._running.done()

    def start(self) -> None:
        """Start accepting requests, in the running event loop."""
        self._running = asyncio.create_task(self._batcher.run())

    async def stop(self) -> None:
        """Stop accepting requests and answer the waiting ones."""
        self._batcher.stop()
        if self._running is not None:
            await self._running
        self._batcher.close()
        self._verify_threads.shutdown(wait=False, cancel_futures=True)

    async def score(self, request: ScoreRequest, host: str = "") -> ScoreResponse:
        """Return the rewards of a request's groups.

        Args:
            host: address that the request came from; with the runs of its rollouts it names the client.

        Raises:
            QueueFull, ServiceStopping: the request was not accepted.
            MemstoreError: it cannot be scored or recorded.
        """
        weight = sum(len(group.rollouts) for group in request.groups)
        verified = await self._verify(request, ClientKey.of(request, host), weight)
        if self.on_groups is not None:
            self.on_groups(request.groups)
        scored = await self._batcher.submit(verified, weight)
        self._count(scored)
        return ScoreResponse([group.rewards for group in scored], sum(group.recorded for group in scored))

    async def _verify(self, request: ScoreRequest, key: ClientKey, weight: int) -> list[_Verified]:
        own = self._clients.rollouts_of(key)
        full = self._clients.rollouts + weight > self._max_waiting
        if own and full and own + weight > self._max_waiting // SHARE:
            raise QueueFull(1.0)
        groups = [group.to_group() for group in request.groups]
        with self._clients.request(key, weight) as client:
            async with client.threads:
                verified = await asyncio.get_running_loop().run_in_executor(
                    self._verify_threads, self._verify_for, client.account, groups
                )
        return [_Verified(*of_group) for of_group in zip(request.groups, groups, verified, strict=True)]

    def _verify_for(self, client: CpuAccount, groups: list[Group]) -> list[VerifiedGroup]:
        """Verify groups of a client; runs in a verification thread."""
        with charged_to(client):
            return self._scorer.verify(groups)

    def _count(self, scored: Sequence[_Scored]) -> None:
        self.metrics.groups.inc(len(scored))
        for group in scored:
            self.metrics.short.inc(group.rewards[0].short)
            self.metrics.silent.inc(group.rewards[0].silent)
            for reward in group.rewards:
                self.metrics.rewards.labels(reward.source).inc()

    def _score_batch(self, batch: list[_Verified]) -> list[_Scored]:
        """Score groups; runs in the batcher's work thread."""
        verified = [item.verified for item in batch]
        rewards = self._scorer.score_verified(verified)
        if self._journal is None:
            self._scorer.mark_recorded(verified, rewards)
        scored = zip(batch, rewards, strict=True)
        return [
            _Scored(item.group, item.verified, of_group, item.request.record and not item.group.query.audit)
            for item, of_group in scored
        ]

    def _append_to_journal(
        self, journal: Journal, model: Callable[[], str | None], scored: list[_Scored]
    ) -> list[_Scored]:
        """Append a batch to the journal in one transaction; runs in the batcher's commit thread."""
        in_use = model()
        entries_by_group = [entries_of(one.group, one.rewards, in_use) if one.record else [] for one in scored]
        new = journal.append([entry for entries in entries_by_group for entry in entries])
        recorded = [one for one in scored if one.record]
        self._scorer.mark_recorded([one.verified for one in recorded], [one.rewards for one in recorded])
        done = []
        for one, entries in zip(scored, entries_by_group, strict=True):
            own = new.intersection(entry.key for entry in entries)
            new -= own
            done.append(one._replace(recorded=len(own)))
        return done


def entries_of(group: Group, rewards: Sequence[Reward], model: str | None = None) -> list[Entry]:
    """Return the journal entries of a scored group: a row per rollout, with its label or score.

    Args:
        model: id of the reward model in use. A remembered verdict is recorded as its score, with the source
            `remembered`, as `memstore score` does: the model's label budget decides which verdicts count.
    """
    entries = []
    for index, (rollout, reward) in enumerate(zip(group.rollouts, rewards, strict=True)):
        row = json.dumps(_row(group.query, rollout, index, reward), ensure_ascii=False, sort_keys=True)
        key = hashlib.blake2b(row.encode(), digest_size=16).hexdigest()
        scored_by = model if reward.source == "remembered" else reward.model
        source = None if reward.source == "ground_truth" else reward.source
        entries.append(Entry(key, row, scored_by, reward.probability, reward.value, source))
    return entries


def _row(query: RewardQuery, rollout: Rollout, index: int, reward: Reward) -> dict[str, object]:
    values: dict[str, object] = dict(record_values(query, rollout, index))
    if reward.source == "ground_truth":
        values |= {"reward": reward.value, "reward_source": "ground_truth"}
        if reward.judged_by is None:
            # Else a verdict was bought on this answer; a stored gold answer would judge the others of the query, too.
            values["gold"] = query.gold
    return values
