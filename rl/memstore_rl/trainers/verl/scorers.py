"""Scorers of the verl hooks: a Ray actor that owns the memory, or the reward service, as configured.

An embedded memory has one owner and verl has many workers, so without a service one actor opens the memory for all of
them; the first worker that needs it creates it. The actor writes nothing: only the service records rollouts in the
memory. Both batch groups that arrive while others are being scored.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from typing import TYPE_CHECKING, Any

from memstore.errors import MemstoreError
from memstore_rl.rewards.gauge_reading import GaugeReading, reading_of
from memstore_rl.rewards.reward import Group, Reward
from memstore_rl.service.batching import Batcher
from memstore_rl.service.client import AsyncRewardClient, ServiceGone
from memstore_rl.trainers.verl.group_barrier import Scorer
from memstore_rl.trainers.verl.reply import CompleteScorer
from memstore_rl.trainers.verl.settings import HookSettings, check_service_shaping
from memstore_rl.trainers.verl.token import read_token

if TYPE_CHECKING:
    from memstore_rl.rewards.group import GroupScorer

MAX_CALLS = 100_000
"""Maximum concurrent calls of an actor: more than the rollouts of any batch. Ray's default is 1,000."""
_MAX_BATCH_ROLLOUTS = 512

logger = logging.getLogger(__name__)


def open_scorer(settings: HookSettings) -> Scorer:
    """Create the configured scorer, in a process of Ray; all its rewards have a value."""
    made = ServiceScorer(settings) if settings.endpoint is not None else ActorScorer(settings)
    return CompleteScorer(made, settings.unscored, group_relative=settings.group_relative)


class ServiceScorer:
    """Scores with the reward service. Use it from one event loop."""

    def __init__(self, settings: HookSettings) -> None:
        assert settings.endpoint is not None
        self._mode = settings.mode
        self._waits = settings.when_gone == "wait"
        self._fits_any = self._shaping_fits = settings.mean_only or settings.mode != "memory"
        self._client = AsyncRewardClient(
            settings.endpoint, token=read_token(settings.token_file), deadline_s=settings.deadline_s
        )

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Return the rewards of the group's rollouts, in order.

        Raises:
            InputError: the service cannot score this group, or its shaping is `residual` and verl divides by the
                standard deviation of a group.
            ServiceGone: it did not respond, and `when_gone` is `fail`.
        """
        request = Group(group.query, group.rollouts, group.expected, group.mode or self._mode)
        while True:
            try:
                await self._check_shaping()
                return await self._client.score_group(request, record=record)
            except ServiceGone as gone:
                if not self._waits:
                    raise
                self._shaping_fits = self._fits_any  # it may start again with another shaping
                logger.warning("%s; the training waits for it (memstore.when_gone=wait)", gone)

    async def gauge(self) -> GaugeReading | None:
        """Return the figures of the service's gauge."""
        return reading_of(await self._client.info())

    async def _check_shaping(self) -> None:
        if self._shaping_fits:
            return
        check_service_shaping(await self._client.info())
        self._shaping_fits = True


class ActorScorer:
    """Scores with the actor that owns the memory."""

    def __init__(self, settings: HookSettings) -> None:
        self._actor = memory_actor(settings)

    async def score_group(self, group: Group, *, record: bool = True) -> list[Reward]:
        """Return the rewards of the group's rollouts, in order.

        Raises:
            MemstoreError: the group cannot be scored, or the actor has ended.
        """
        from ray.exceptions import RayActorError, RayTaskError

        try:
            rewards: list[Reward] = await self._actor.score_group.remote(group)
        except RayTaskError as error:
            raise unwrap_ray_error(error) from error
        except RayActorError as error:
            raise MemstoreError(
                "the process that owns the memory has ended, so nothing can be scored; see Ray's log for the reason"
            ) from error
        return rewards

    async def gauge(self) -> GaugeReading | None:
        """Return the figures of the gauge of the actor's scorer."""
        reading: GaugeReading = await self._actor.gauge.remote()
        return reading


def unwrap_ray_error(error: BaseException) -> BaseException:
    """Return the error as raised in the actor, without the traceback that Ray adds."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, MemstoreError) else error


class MemoryActor:
    """The actor: a `GroupScorer` in a thread, behind a batcher."""

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        self._scorer: GroupScorer | None = None
        self._batcher: Batcher[Group, list[Reward]] | None = None
        self._opening = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the memory unless it is open.

        Raises:
            MemstoreError: it cannot be opened.
        """
        async with self._opening:
            if self._batcher is None:
                self._scorer = await asyncio.get_running_loop().run_in_executor(
                    None, _open_group_scorer, self._settings
                )
                self._batcher = Batcher(self._scorer.score_groups, max_batch=_MAX_BATCH_ROLLOUTS, max_waiting=2**62)
                self._running = asyncio.create_task(self._batcher.run())

    async def score_group(self, group: Group) -> list[Reward]:
        """Return the rewards of the group's rollouts, in order."""
        await self.open()
        assert self._batcher is not None
        return (await self._batcher.submit([group], len(group.rollouts)))[0]

    async def gauge(self) -> GaugeReading:
        """Return the figures of the scorer's gauge."""
        await self.open()
        assert self._scorer is not None
        return self._scorer.gauge.reading()


def _open_group_scorer(settings: HookSettings) -> GroupScorer:
    try:
        from memstore_rl.rewards.gauge import GaugeSettings
        from memstore_rl.rewards.group import GroupScorer
        from memstore_rl.verifiers import make_verifiers
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("memstore"):
            raise
        raise MemstoreError(
            "a memory in this job needs all of memstore, and memstore-client is a part of it; name the endpoint of a "
            "reward service, or run: pip uninstall memstore-client && pip install memstore"
        ) from error

    return GroupScorer.open(
        settings.memory,
        mode=settings.mode,
        model=settings.model,
        device=settings.device,
        shaping=settings.shaping or "probability",  # `hook_settings` has chosen one
        min_spread=settings.min_spread,
        residual_weight=settings.residual_weight,
        verifier_budget=settings.verifier_budget,
        gauge=GaugeSettings(settings.when_harmful or "stop", settings.gauge_share),
        verifiers=make_verifiers(code=settings.run_code),
    )


def memory_actor(settings: HookSettings) -> Any:
    """Return the actor of this Ray job that owns the memory, creating it if necessary; its memory is open.

    Keep the handle: Ray ends an actor when its creator drops it.

    Raises:
        MemstoreError: the memory cannot be opened.
    """
    import ray
    from ray.exceptions import RayTaskError

    actor = ray.remote(MemoryActor).options(
        name=actor_name("memory", settings),
        get_if_exists=True,
        max_concurrency=MAX_CALLS,
        num_cpus=0,
        num_gpus=settings.gpus,
    )
    handle = actor.remote(settings)
    try:
        ray.get(handle.open.remote())
    except RayTaskError as error:
        raise unwrap_ray_error(error) from error
    return handle


def actor_name(what: str, settings: HookSettings) -> str:
    """Return the name of an actor, which is unique per Ray job and settings."""
    import ray

    settings_json = settings.model_dump_json(exclude={"reward_worker_calls"})
    digest = hashlib.sha256(settings_json.encode()).hexdigest()[:12]
    return f"memstore_{what}_{ray.get_runtime_context().get_job_id()}_{digest}"
