"""Drives the builders of tinker-cookbook as its training does, after a trip through pickle.

The rollouts of a group, their errors and the evaluation go through tinker-cookbook's own functions where it is
importable; else through those recorded below. The strategy is one that tolerates errors, so that a failure which is an
ordinary exception would be dropped.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.hook_settings import HookSettings
from memstore_rl.trainers.stopped import TrainingStopped
from memstore_rl.trainers.tinker_cookbook import RewardedGroup, RowDataset

RECORDED = "the signatures recorded from tinker-cookbook 0.6.1"


@dataclass(frozen=True)
class RecordedTrajectory:
    """tinker-cookbook's `Trajectory`, as far as the hook reads it."""

    transitions: list[Any]


@dataclass
class RecordedGroup:
    """tinker-cookbook's `TrajectoryGroup`."""

    trajectories_G: list[Any]
    final_rewards_G: list[float]
    metrics_G: list[dict[str, float]]

    def get_total_rewards(self) -> list[float]:
        """The rewards of the steps plus that of the group."""
        return [
            sum(transition.reward for transition in trajectory.transitions) + final
            for trajectory, final in zip(self.trajectories_G, self.final_rewards_G, strict=True)
        ]


@dataclass(frozen=True)
class CharacterRenderer:
    """A renderer whose tokens are characters."""

    tokenizer: Any = field(default_factory=lambda: CharacterTokenizer())

    def build_generation_prompt(self, messages: Sequence[Any]) -> Any:
        """The contents of the messages as tokens."""
        from tinker import ModelInput

        return ModelInput.from_ints([ord(letter) for message in messages for letter in message["content"]])

    def get_stop_sequences(self) -> list[str]:
        """Sampling ends at the end of the turn."""
        return ["<|im_end|>"]


@dataclass(frozen=True)
class CharacterTokenizer:
    """One token a character."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return "".join(map(chr, tokens))


class _Sampler:
    """tinker's `SamplingClient`: gives prepared completions, and fails when none is left."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._left = list(texts)

    async def sample(self, prompt: Any, num_samples: int, sampling_params: Any) -> Any:
        """One completion as tokens."""
        if not self._left:
            raise RuntimeError("the sampler is overloaded")
        tokens = [ord(letter) for letter in self._left.pop(0) + "<|im_end|>"]
        sequence = SimpleNamespace(
            tokens=tokens, logprobs=[0.0] * len(tokens), stop_reason="stop", sequence_id=None, text=None
        )
        return SimpleNamespace(sequences=[sequence], prompt_cache_hit_tokens=0)


class Driver:
    """See the module's docstring."""

    trainer = "tinker-cookbook"
    may_refuse = True

    def __init__(self) -> None:
        try:
            import tinker_cookbook
            from tinker_cookbook.rl import metric_util, rollouts  # noqa: F401
        except ImportError:
            self.against = RECORDED
            self._rollout: Callable[..., Any] = _rollout
            self._metrics: Callable[..., dict[str, float]] = _metrics
        else:
            self.against = f"tinker-cookbook's own rollouts and metrics, {tinker_cookbook.__version__}"
            self._rollout, self._metrics = _own_rollout, metric_util.compute_trajectory_metrics

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of groups."""
        return self._run(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of a test set."""
        return self._run(groups, settings, "test")

    def _run(self, groups: Sequence[GroupCase], settings: HookSettings, split: str) -> Outcome:
        data = RowDataset(
            [{"prompt": case.messages, **case.columns(split)} for case in groups], CharacterRenderer(), len(groups), 4
        )
        builders: list[RewardedGroup] = [pickle.loads(pickle.dumps(builder)) for builder in data.get_batch(0)]

        async def step() -> list[Any]:
            return await asyncio.gather(
                *(self._rollout(_Sampler(case.completions), one) for case, one in zip(groups, builders, strict=True))
            )

        with in_environment(settings):
            try:
                made = asyncio.run(step())
            except TrainingStopped as stopped:  # the process ends
                raise stopped.__cause__ or stopped from None
        metrics = self._metrics(made, [one.logging_tags() for one in builders])
        return Outcome(
            {case.name: _values(case, group) for case, group in zip(groups, made, strict=True)},
            {name.removeprefix("env/all/memstore/"): value for name, value in metrics.items()},
        )


def _values(case: GroupCase, group: Any) -> list[float]:
    """The rewards in the order of the completions; a strategy returns trajectories as they end."""
    decode = CharacterTokenizer().decode
    texts = [decode(one.transitions[0].ac.tokens).removesuffix("<|im_end|>") for one in group.trajectories_G]
    rewards = dict(zip(texts, group.get_total_rewards(), strict=True))
    return [rewards[text] for text in case.completions]


async def _own_rollout(sampler: Any, builder: Any) -> Any:
    from tinker_cookbook.rl.rollout_strategy import MinViableGroup
    from tinker_cookbook.rl.rollouts import do_group_rollout_and_filter_constant_reward

    return await do_group_rollout_and_filter_constant_reward(
        sampler,
        builder,
        max_tokens=100,
        temperature=1.0,
        do_remove_constant_reward_groups=False,
        enable_logging=False,
        strategy=MinViableGroup(min_successful=1, max_retries=0),
    )


async def _rollout(sampler: Any, builder: Any) -> RecordedGroup | None:
    """As tinker-cookbook's `do_group_rollout_and_filter_constant_reward` with a strategy that tolerates errors."""
    trajectories, envs = [], []
    for env in await builder.make_envs():
        try:
            sampled = await sampler.sample(None, 1, None)
        except RuntimeError:  # a rollout that failed is left out
            continue
        action = SimpleNamespace(tokens=sampled.sequences[0].tokens)
        trajectories.append(RecordedTrajectory([SimpleNamespace(ac=action, reward=0.25)]))
        envs.append(env)
    try:
        scored = await builder.compute_group_rewards(trajectories, envs)
    except Exception:  # tinker-cookbook logs it and skips the group
        return None
    finally:
        await builder.cleanup()
    return RecordedGroup(trajectories, [reward for reward, _ in scored], [metrics for _, metrics in scored])


def _metrics(groups: Sequence[RecordedGroup], tags: Sequence[Sequence[str]]) -> dict[str, float]:
    """As tinker-cookbook's `compute_trajectory_metrics`: means over the trajectories, by name."""
    logs = [log for group in groups for log in group.metrics_G]
    return {f"env/all/{name}": sum(log[name] for log in logs) / len(logs) for name in logs[0]}
