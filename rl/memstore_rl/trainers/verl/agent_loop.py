"""Group scoring inside the agent-loop worker, for the v1 trainer of verl 0.9.

The v1 trainer runs all sessions of a prompt in one worker, so its rollouts meet in one process, and no reward worker is
blocked while a rollout waits for its group. This worker also knows what the reward manager can only infer: how many
sessions a prompt has, which of them failed (the group shrinks at once), and whether it is validation. Load it with

    +actor_rollout_ref.rollout.agent.agent_loop_manager_class=memstore_rl.trainers.verl.agent_loop.GroupAgentLoopManager

The worker overrides `_run_prompt`, `_run_agent_loop` and `_compute_score` of verl's `AgentLoopWorkerTQ`. These are not
public; they were tested with verl 0.9.1. verl still starts its reward workers, but they are not used.

A rollout that already has a reward from its agent loop keeps it and leaves its group.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from memstore.text.chat import plain_output
from memstore_rl.rewards.reward import Group, Reward, Rollout
from memstore_rl.trainers.verl.group_barrier import GroupBarrier
from memstore_rl.trainers.verl.reply import reply
from memstore_rl.trainers.verl.rows import query_of
from memstore_rl.trainers.verl.scorers import memory_actor, open_scorer
from memstore_rl.trainers.verl.settings import hook_settings, run_name
from memstore_rl.trainers.verl.stop import stop_training

if TYPE_CHECKING:
    from verl.experimental.agent_loop import AgentLoopOutput


class _Prompt(NamedTuple):
    """A prompt whose sessions are running."""

    sessions: int
    validate: bool
    submitted: set[int]
    """Sessions whose rollout has reached the barrier."""


class GroupAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[misc]
    """verl's worker with group scoring; see the module's docstring."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = hook_settings(self.config)
        self._scorer = open_scorer(settings)
        self._barrier = GroupBarrier(self._scorer, wait_s=settings.group_wait_s)
        self._prompts: dict[str, _Prompt] = {}
        self._policy = str(self.config.actor_rollout_ref.model.path)
        self._run_name = run_name(self.config, settings)

    async def _run_prompt(
        self, prompt: dict[str, Any], sampling_params: dict[str, Any], trajectory: dict[str, Any], trace: bool = False
    ) -> None:
        rollout, validate = self.config.actor_rollout_ref.rollout, bool(trajectory["validate"])
        sessions = prompt.get("__rollout_n__", rollout.val_kwargs.n if validate else rollout.n)
        self._prompts[prompt["uid"]] = _Prompt(int(sessions), validate, set())
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory=trajectory, trace=trace)
        finally:
            del self._prompts[prompt["uid"]]

    async def _run_agent_loop(
        self,
        sampling_params: dict[str, Any],
        trajectory: dict[str, Any],
        *,
        agent_name: str,
        trace: bool = True,
        **kwargs: Any,
    ) -> Any:
        try:
            return await super()._run_agent_loop(
                sampling_params, trajectory, agent_name=agent_name, trace=trace, **kwargs
            )
        finally:
            prompt = self._prompts[kwargs["uid"]]
            if not prompt.validate and int(kwargs["session_id"]) not in prompt.submitted:
                self._barrier.leave(str(kwargs["uid"]), prompt.sessions)

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict[str, Any]) -> None:
        final = outputs[-1]
        if final.reward_score is not None:
            return
        started, uid = time.perf_counter(), str(kwargs["uid"])
        prompt = self._prompts[kwargs["uid"]]
        try:
            reward = await self._reward(uid, prompt, final, kwargs)
        except Exception as error:
            await stop_training(uid, validate=prompt.validate, reason=str(error))
        final.reward_score = reward.value
        final.extra_fields["reward_extra_info"] = reply(reward)
        final.metrics.compute_score = time.perf_counter() - started

    async def _reward(self, uid: str, prompt: _Prompt, final: AgentLoopOutput, kwargs: dict[str, Any]) -> Reward:
        extra_info = kwargs.get("extra_info") or {}
        query = query_of(kwargs.get("raw_prompt"), str(kwargs["data_source"]), kwargs["reward_model"], extra_info)
        rollout = await asyncio.get_running_loop().run_in_executor(None, self._rollout, final, kwargs)
        if prompt.validate:
            group = Group(query, [rollout], mode="oracle")
            return (await self._scorer.score_group(group, record=False))[0]
        prompt.submitted.add(int(kwargs["session_id"]))
        return await self._barrier.submit(uid, prompt.sessions, query, rollout)

    def _rollout(self, final: AgentLoopOutput, kwargs: dict[str, Any]) -> Rollout:
        logprobs = final.response_logprobs
        return Rollout(
            response=plain_output(self.tokenizer.decode(final.response_ids, skip_special_tokens=True)),
            policy=self._policy,
            run=self._run_name,
            step=int(kwargs["global_steps"]),
            sample_index=int(kwargs["session_id"]),
            mean_logprob=sum(logprobs) / len(logprobs) if logprobs else None,
        )


class GroupAgentLoopManager(AgentLoopManagerTQ):  # type: ignore[misc]
    """verl's manager with `GroupAgentLoopWorker`; opens the memory before the training starts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = hook_settings(self.config)
        self.agent_loop_workers_class = ray.remote(GroupAgentLoopWorker)
        # Keep the handle: Ray ends an actor when its creator drops it.
        self._memory = None if settings.endpoint is not None else memory_actor(settings)
