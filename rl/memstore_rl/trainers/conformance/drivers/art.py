"""Drives the hook of ART as the `after_each` of `gather_trajectory_groups`.

The classes are ART's own where it is importable; else those recorded below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from memstore_rl.trainers.art import score_group
from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.hook_settings import HookSettings

RECORDED = "the signatures recorded from openpipe-art 0.5.18"


@dataclass
class RecordedTrajectory:
    """ART's `Trajectory`, as far as the hook reads it."""

    messages_and_choices: list[Any] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    additional_histories: list[Any] = field(default_factory=list)
    reward: float = 0.0
    initial_policy_version: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    def messages(self) -> list[dict[str, Any]]:
        """The messages, those of the policy too."""
        return [one if isinstance(one, dict) else vars(one.message) for one in self.messages_and_choices]


@dataclass
class RecordedGroup:
    """ART's `TrajectoryGroup`, as far as the hook reads it."""

    trajectories: list[RecordedTrajectory]
    exceptions: list[Any] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)


class Driver:
    """See the module's docstring."""

    trainer = "art"
    may_refuse = True

    def __init__(self) -> None:
        try:
            import art
            from openai.types.chat.chat_completion import Choice
        except ImportError:
            self.against = RECORDED
            self._trajectory: Any = RecordedTrajectory
            self._group: Any = RecordedGroup
            self._gather: Callable[..., Coroutine[Any, Any, list[Any]]] = _gather
            self._choice = _choice
        else:
            self.against = "ART's own Trajectory, TrajectoryGroup and gather_trajectory_groups"
            self._trajectory, self._group, self._gather = (
                art.Trajectory,
                art.TrajectoryGroup,
                art.gather_trajectory_groups,
            )
            self._choice = lambda text: Choice.model_validate(
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            )

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of groups."""
        return self._score(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of a validation, by its split."""
        return self._score(groups, settings, "validation")

    def _score(self, groups: Sequence[GroupCase], settings: HookSettings, split: str) -> Outcome:
        async def made(case: GroupCase) -> Any:
            return self._group([self._made(case, text) for text in case.completions], metadata={"split": split})

        with in_environment(settings):
            scored = asyncio.run(self._gather((made(case) for case in groups), after_each=score_group, pbar_desc=None))
        values = {
            case.name: [one.reward for one in group.trajectories] for case, group in zip(groups, scored, strict=True)
        }
        logs = [one.metrics for group in scored for one in group.trajectories]
        names = [name for name in logs[0] if name.startswith("memstore/")]
        return Outcome(
            values, {name.removeprefix("memstore/"): sum(log[name] for log in logs) / len(logs) for name in names}
        )

    def _made(self, case: GroupCase, text: str) -> Any:
        metadata: dict[str, Any] = {"domain": "math"} | ({"gold": case.gold} if case.gold else {})
        return self._trajectory(
            messages_and_choices=[{"role": "user", "content": case.query}, self._choice(text)], metadata=metadata
        )


def _choice(text: str) -> Any:
    return SimpleNamespace(message=SimpleNamespace(role="assistant", content=text))


async def _gather(
    groups: Iterable[Awaitable[Any]], *, after_each: Callable[[Any], Awaitable[Any]], pbar_desc: None
) -> list[Any]:
    """As ART's `gather_trajectory_groups`: every group goes through `after_each`, and errors are raised."""

    async def forward(group: Awaitable[Any]) -> Any:
        return await after_each(await group)

    return await asyncio.gather(*[forward(group) for group in groups])
