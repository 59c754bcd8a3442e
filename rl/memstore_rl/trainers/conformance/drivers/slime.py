"""Drives the hook of slime as its rollout does: a coroutine for each group, and one sample at a time in an evaluation.

It uses slime's own `Sample` and `batched_async_rm` where slime is importable; else the signatures recorded below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any, TypeAlias

from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.hook_settings import HookSettings
from memstore_rl.trainers.slime import log_rollout

RECORDED = "the signatures recorded from THUDM/slime 624b824a (0.3.1)"


class Status(Enum):
    """slime's `Sample.Status`, as far as the hook reads it."""

    COMPLETED = "completed"


@dataclass
class RecordedSample:
    """slime's `Sample`, as far as the hook reads it."""

    group_index: int | None = None
    index: int | None = None
    prompt: str | list[dict[str, str]] = ""
    response: str = ""
    label: Any = None
    reward: float | None = None
    weight_versions: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.COMPLETED


Own: TypeAlias = tuple[str, Callable[..., Any], Callable[..., Awaitable[Any]]]
"""What a driver is driven with: in words, the class of a sample, and the call for a group or a sample."""


class Driver:
    """See the module's docstring."""

    trainer = "slime"
    may_refuse = True
    path = "memstore_rl.trainers.slime.group_rewards"

    def __init__(self) -> None:
        recorded: Own = (RECORDED, RecordedSample, _call)
        self.against, self._sample, self._call = self._own() or recorded

    def _own(self) -> Own | None:
        """slime's own classes; None where slime is not installed. PyPI's slime is another package."""
        try:
            from slime.rollout.rm_hub import async_rm, batched_async_rm
            from slime.utils.types import Sample
        except ImportError:
            return None
        return "slime's own Sample, batched_async_rm and async_rm", Sample, dispatch(batched_async_rm, async_rm)

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A rollout: one call for each group, all at a time."""
        batch = [self._samples(number, case, "train") for number, case in enumerate(groups)]
        args = self._arguments(settings, group_rm=True)

        async def rollout() -> None:
            calls = [self._call(args, samples) for samples in batch]
            for samples, rewards in zip(batch, await asyncio.gather(*calls), strict=True):
                for sample, reward in zip(samples, rewards, strict=True):
                    sample.reward = reward

        with in_environment(settings):
            asyncio.run(rollout())
        metrics: dict[str, float] = {}
        assert log_rollout(0, args, [sample for samples in batch for sample in samples], metrics, 1.0) is False
        return Outcome(_rewards(groups, batch), {name.removeprefix("memstore/"): v for name, v in metrics.items()})

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """An evaluation: one call for each sample."""
        batch = [self._samples(number, case, "validation") for number, case in enumerate(groups)]
        args = self._arguments(settings, group_rm=False)

        async def rollout() -> None:
            for samples in batch:
                for sample in samples:
                    sample.reward = await self._call(args, sample)

        with in_environment(settings):
            asyncio.run(rollout())
        return Outcome(_rewards(groups, batch), {})

    def _arguments(self, settings: HookSettings, *, group_rm: bool) -> SimpleNamespace:
        return SimpleNamespace(
            group_rm=group_rm,
            custom_rm_path=self.path,
            n_samples_per_prompt=settings.group_size,
            advantage_estimator="grpo",
            rewards_normalization=True,
            grpo_std_normalization=False,
            hf_checkpoint="policy",
            multi_lora=False,
        )

    def _samples(self, number: int, case: GroupCase, split: str) -> list[Any]:
        return [
            self._sample(
                group_index=number,
                index=number * 100 + at,
                prompt=f"<|im_start|>user\n{case.query}<|im_end|>\n<|im_start|>assistant\n",
                response=f"{text}<|im_end|>",
                label={"style": "rule", "ground_truth": case.gold or ""},
                metadata={"split": split, "domain": "math"},
                weight_versions=["3"],
                status=self._completed(),
            )
            for at, text in enumerate(case.completions)
        ]

    def _completed(self) -> Any:
        return getattr(self._sample, "Status", Status).COMPLETED


def dispatch(batched: Callable[..., Awaitable[Any]], single: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """The trainer's entry for a group, or for one sample."""

    def call(args: Any, samples: Any) -> Awaitable[Any]:
        return batched(args, samples) if isinstance(samples, list) else single(args, samples)

    return call


async def _call(args: Any, samples: Any) -> Any:
    """Load the function by its path and await it, as `batched_async_rm` and `async_rm` do."""
    from importlib import import_module

    module, _, name = args.custom_rm_path.rpartition(".")
    return await getattr(import_module(module), name)(args, samples)


def _rewards(groups: Sequence[GroupCase], batch: Sequence[Sequence[Any]]) -> dict[str, list[float]]:
    return {case.name: [sample.reward for sample in samples] for case, samples in zip(groups, batch, strict=True)}
