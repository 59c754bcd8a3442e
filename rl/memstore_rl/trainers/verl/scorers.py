"""Who scores a group: a Ray actor that owns the memory, or the reward service. The configuration chooses.

An embedded memory has one owner and verl has many workers, so without a service one actor opens it for all of them; the
first that asks makes it. It scores and writes nothing: rollouts of the training flow back into the memory through the
service. Groups that come while others are scored are scored together, in the actor as in the service.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Any

from memstore.errors import MemstoreError
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.service.batching import Batcher
from memstore_rl.service.client import AsyncRewardClient, ServiceGone
from memstore_rl.trainers.verl.group_barrier import Scorer
from memstore_rl.trainers.verl.reply import CompleteScorer
from memstore_rl.trainers.verl.settings import HookSettings
from memstore_rl.trainers.verl.token import read_token

if TYPE_CHECKING:
    from memstore_rl.rewards.group import GroupScorer

ANY_NUMBER = 100_000
"""Calls that an actor of ours takes at a time: more than any batch has rollouts. Ray's own limit is 1,000."""
_MAX_BATCH_ROLLOUTS = 512

logger = logging.getLogger(__name__)


def open_scorer(settings: HookSettings) -> Scorer:
    """The scorer that the settings name, in a process that Ray runs; every reward it gives has a number."""
    made = ServiceScorer(settings) if settings.endpoint is not None else ActorScorer(settings)
    return CompleteScorer(made, settings.unscored)


class ServiceScorer:
    """Asks the reward service. Belongs to the event loop that it is first used from."""

    def __init__(self, settings: HookSettings) -> None:
        assert settings.endpoint is not None
        self._mode = settings.mode
        self._waits = settings.when_gone == "wait"
        self._client = AsyncRewardClient(
            settings.endpoint, token=read_token(settings.token_file), deadline_s=settings.deadline_s
        )

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Rewards of the group's rollouts, in their order.

        Raises:
            InputError: the service cannot score this group.
            ServiceGone: it did not answer, and nobody said to wait.
        """
        asked = Group(group.query, group.rollouts, group.expected, group.mode or self._mode)
        while True:
            try:
                return await self._client.score_group(asked, record=record)
            except ServiceGone as gone:
                if not self._waits:
                    raise
                logger.warning("%s; the training waits for it (memstore.when_gone=wait)", gone)


class ActorScorer:
    """Asks the actor that owns the memory."""

    def __init__(self, settings: HookSettings) -> None:
        self._actor = memory_actor(settings)

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Rewards of the group's rollouts, in their order.

        Raises:
            MemstoreError: it cannot be scored, or the actor is gone.
        """
        from ray.exceptions import RayActorError, RayTaskError

        try:
            rewards: list[Reward] = await self._actor.score_group.remote(group)
        except RayTaskError as error:
            raise plain(error) from error
        except RayActorError as error:
            raise MemstoreError(
                "the process that owns the memory is gone, so nothing can be scored; its last words are in Ray's log"
            ) from error
        return rewards


def plain(error: BaseException) -> BaseException:
    """The error as it was raised in the actor: Ray wraps it in the traceback of another process."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, MemstoreError) else error


class MemoryActor:
    """The actor: a `GroupScorer` in a thread, groups batched in front of it."""

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        self._batcher: Batcher[Group, list[Reward]] | None = None
        self._opening = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the memory, if it is not open yet.

        Raises:
            MemstoreError: it cannot be opened.
        """
        async with self._opening:
            if self._batcher is None:
                scorer = await asyncio.get_running_loop().run_in_executor(None, _open_group_scorer, self._settings)
                self._batcher = Batcher(scorer.score_groups, max_batch=_MAX_BATCH_ROLLOUTS, max_waiting=2**62)
                self._running = asyncio.create_task(self._batcher.run())

    async def score_group(self, group: Group) -> list[Reward]:
        """Rewards of the group's rollouts, in their order."""
        await self.open()
        assert self._batcher is not None
        return (await self._batcher.submit([group], len(group.rollouts)))[0]


def _open_group_scorer(settings: HookSettings) -> GroupScorer:
    from memstore_rl.rewards.group import GroupScorer
    from memstore_rl.verifiers import make_verifiers

    return GroupScorer.open(
        settings.memory,
        mode=settings.mode,
        model=settings.model,
        device=settings.device,
        shaping=settings.shaping,
        min_spread=settings.min_spread,
        verifiers=make_verifiers(code=settings.run_code),
    )


def memory_actor(settings: HookSettings) -> Any:
    """The actor of this Ray job that owns the memory, made if there is none; the memory is open when this returns.

    Whoever makes it has to hold what this returns: Ray ends an actor that its maker lets go of.

    Raises:
        MemstoreError: the memory cannot be opened.
    """
    import ray
    from ray.exceptions import RayTaskError

    actor = ray.remote(MemoryActor).options(
        name=actor_name("memory", settings),
        get_if_exists=True,
        max_concurrency=ANY_NUMBER,
        num_cpus=0,
        num_gpus=settings.gpus,
    )
    handle = actor.remote(settings)
    try:
        ray.get(handle.open.remote())
    except RayTaskError as error:
        raise plain(error) from error
    return handle


def actor_name(what: str, settings: HookSettings) -> str:
    """Name of an actor of ours; two jobs of one Ray namespace have one each, and so have two settings of one job."""
    import ray

    told = settings.model_dump_json(exclude={"reward_worker_calls"})
    digest = hashlib.sha256(told.encode()).hexdigest()[:12]
    return f"memstore_{what}_{ray.get_runtime_context().get_job_id()}_{digest}"
