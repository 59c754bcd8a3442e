"""Reward-loop manager for verl 0.7.1 and later: scores groups, although verl asks for one rollout at a time.

verl sends each finished rollout to a random reward worker, so the rollouts of a group meet in an actor, the group
barrier; the reward worker's call waits there until the group is complete. Load it with

    reward.reward_manager.source=importlib
    reward.reward_manager.module.path=pkg://memstore_rl.trainers.verl.manager
    reward.reward_manager.name=GroupRewardManager

**Deadlock.** A reward worker is a Ray actor that runs at most 1,000 calls at a time by default. If all of them wait for
rollouts of later calls, nothing proceeds. Importing this module therefore makes verl's `RewardLoopManager` start its
workers without that limit; from verl 0.8 on that manager imports this module before it starts them. Where it does not
(0.7.1), the manager refuses to start unless `reward.num_workers` is large enough for the batch.

Validation rollouts are scored one by one with ground truth, because verl pads their batches with copies.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
from omegaconf import open_dict
from verl.experimental.reward_loop.reward_loop import RewardLoopManager, RewardLoopWorker
from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from memstore.errors import InputError
from memstore.text.chat import plain_output
from memstore_rl.rewards.gauge_reading import GaugeReading
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.service.client import ServiceGone
from memstore_rl.trainers.verl.config import workers_needed
from memstore_rl.trainers.verl.group_barrier import GroupBarrier
from memstore_rl.trainers.verl.reply import Extra, reply
from memstore_rl.trainers.verl.rows import TRAINING_SPLIT, is_training, query_of
from memstore_rl.trainers.verl.scorers import MAX_CALLS, actor_name, memory_actor, open_scorer, unwrap_ray_error
from memstore_rl.trainers.verl.settings import HookSettings, hook_settings, rollouts_in_flight, run_name
from memstore_rl.trainers.verl.stop import stop_training

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from verl import DataProto


logger = logging.getLogger(__name__)


class GroupBarrierActor:
    """Ray actor with the group barrier of all reward workers."""

    def __init__(self, settings: HookSettings, batch: int) -> None:
        self._scorer = open_scorer(settings)
        self._barrier = GroupBarrier(self._scorer, wait_s=settings.group_wait_s)
        self._batch = batch
        self._counts: Counter[str] = Counter()
        self._gauge: GaugeReading | None = None
        self._rewards = 0

    async def ready(self) -> None:
        """Return once the memory is open."""

    async def submit(self, key: str, size: int, query: RewardQuery, rollout: Rollout) -> Extra:
        """Return the reward of a training rollout once its group is complete."""
        extra = self._counted(reply(await self._barrier.submit(key, size, query, rollout), self._gauge))
        if not self._rewards:
            await self._read_gauge()
        return extra

    async def validate(self, query: RewardQuery, rollout: Rollout) -> Extra:
        """Return the ground truth of a validation rollout."""
        group = Group(query, [rollout], mode="oracle")
        return reply((await self._scorer.score_group(group, record=False))[0])

    def waiting(self) -> int:
        """Number of rollouts whose group is incomplete."""
        return self._barrier.waiting

    async def _read_gauge(self) -> None:
        """Read the gauge after a batch; its figures are in the rewards of the next one."""
        try:
            reading = await self._scorer.gauge()
        except ServiceGone as gone:
            logger.warning("%s; the metrics keep the figures of the gauge from before", gone)
            return
        self._gauge = reading if reading is not None and reading.steps else None
        if self._gauge is not None and self._gauge.judged:
            print(f"memstore: {self._gauge.summary()}", flush=True)

    def _counted(self, extra: Extra) -> Extra:
        self._counts[str(extra["source"])] += 1
        self._rewards += 1
        self._counts["short"] += bool(extra["group_short"])
        self._counts["silent"] += bool(extra["group_silent"])
        if (total := self._rewards) >= self._batch:
            parts = ", ".join(f"{name} {self._counts[name] / total:.1%}" for name in sorted(self._counts))
            print(f"memstore: the last {total} training rewards: {parts}", flush=True)
            self._counts.clear()
            self._rewards = 0
        return extra


class GroupRewardManager(RewardManagerBase):  # type: ignore[misc]
    """The manager in each reward worker; see the module's docstring."""

    def __init__(
        self,
        config: DictConfig,
        tokenizer: Any,
        compute_score: Any,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        super().__init__(config, tokenizer, compute_score)
        settings = hook_settings(config)
        check_room(config, settings)
        self._group_size = int(config.actor_rollout_ref.rollout.n)
        self._policy = str(config.actor_rollout_ref.model.path)
        self._run = run_name(config, settings)
        # Open it here for a clear error, and keep the handle: Ray ends an actor without references.
        self._memory = None if settings.endpoint is not None else memory_actor(settings)
        self._barrier = group_barrier_actor(config, settings)

    async def run_single(self, data: DataProto) -> dict[str, Any]:
        """Return the reward of one rollout to verl's reward worker.

        Raises:
            MemstoreError: it cannot be scored. Under the v1 trainer the training is stopped instead.
        """
        row = data[-1:][0].non_tensor_batch
        try:
            extra = await self._extra(row, data)
        except Exception as error:
            if "session_id" not in row:
                raise
            import transfer_queue

            transfer_queue.init()
            validate = (row.get("extra_info") or {}).get("split") not in (None, TRAINING_SPLIT)
            await stop_training(str(row["uid"]), validate=validate, reason=str(error))
        return {"reward_score": extra["score"], "reward_extra_info": extra}

    async def _extra(self, row: Mapping[str, Any], data: DataProto) -> Extra:
        extra_info = row.get("extra_info") or {}
        query = query_of(row.get("raw_prompt"), str(row["data_source"]), row["reward_model"], extra_info)
        training = is_training(extra_info)
        rollout = await self.loop.run_in_executor(None, self._rollout, data)
        try:
            if training:
                extra: Extra = await self._barrier.submit.remote(str(row["uid"]), self._group_size, query, rollout)
            else:
                extra = await self._barrier.validate.remote(query, rollout)
        except ray.exceptions.RayTaskError as error:
            raise unwrap_ray_error(error) from error
        return extra

    def _rollout(self, data: DataProto) -> Rollout:
        item = data[-1:][0]
        row, responses = item.non_tensor_batch, item.batch["responses"]
        length = int(item.batch["attention_mask"][-responses.shape[-1] :].sum())
        step, session = row.get("global_steps"), row.get("session_id")
        return Rollout(
            response=plain_output(self.tokenizer.decode(responses[:length], skip_special_tokens=True)),
            policy=self._policy,
            run=self._run,
            step=None if step is None else int(step),
            sample_index=None if session is None else int(session),
        )


def group_barrier_actor(config: DictConfig, settings: HookSettings) -> Any:
    """Return the group barrier of this Ray job, creating it if necessary."""
    actor = ray.remote(GroupBarrierActor).options(
        name=actor_name("group_barrier", settings), get_if_exists=True, max_concurrency=MAX_CALLS, num_cpus=0
    )
    barrier = actor.remote(settings, int(config.data.train_batch_size) * int(config.actor_rollout_ref.rollout.n))
    ray.get(barrier.ready.remote())
    return barrier


def check_room(config: DictConfig, settings: HookSettings) -> None:
    """Check that the reward workers can hold a whole waiting batch.

    Raises:
        InputError: there are too few reward workers.
    """
    needed = workers_needed(rollouts_in_flight(config), settings.reward_worker_calls)
    if config.reward.num_workers < needed:
        raise InputError(
            f"up to {rollouts_in_flight(config)} rollouts wait for their groups, but reward.num_workers="
            f"{config.reward.num_workers} reward workers run {settings.reward_worker_calls} calls each, so the "
            f"training would deadlock; set reward.num_workers={needed}"
        )


def widen_reward_workers() -> None:
    """Patch verl's `RewardLoopManager` to start our workers without a limit of concurrent calls."""
    original = RewardLoopManager._init_reward_loop_workers
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def init_without_limit(self: Any) -> None:
        if getattr(self, "reward_manager_cls", None) is GroupRewardManager:
            self.reward_loop_workers_class = ray.remote(max_concurrency=MAX_CALLS)(RewardLoopWorker)
            with open_dict(self.config):
                self.config.memstore.reward_worker_calls = MAX_CALLS
        original(self)

    RewardLoopManager._init_reward_loop_workers = init_without_limit


widen_reward_workers()
