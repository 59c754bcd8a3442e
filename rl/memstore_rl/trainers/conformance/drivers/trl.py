"""Drives the hook of TRL as `GRPOTrainer` calls a reward function.

The call is recorded, because the trainer itself needs a policy; tests/rl/trainers/trl train with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from memstore_rl.service.client import RewardClient
from memstore_rl.trainers.conformance.driver import GroupCase, Outcome
from memstore_rl.trainers.hook_settings import HookSettings


class Driver:
    """See the module's docstring."""

    trainer = "trl"
    against = "the call of a reward function as recorded from TRL 1.16"
    may_refuse = False

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A generation."""
        return _call(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """An evaluation."""
        return _call(groups, settings, "validation")


def _call(groups: Sequence[GroupCase], settings: HookSettings, split: str) -> Outcome:
    from memstore_rl.trainers.trl import reward_function

    rows = [(case, text) for case in groups for text in case.completions]
    metrics: dict[str, float] = {}
    with RewardClient(settings.endpoint, token=settings.secret(), deadline_s=settings.deadline_s) as client:
        rewards = reward_function(client, num_generations=settings.group_size, scale_rewards="none")(
            prompts=[[{"role": "user", "content": case.query}] for case, _ in rows],
            completions=[[{"role": "assistant", "content": text}] for _, text in rows],
            completion_ids=[[0] for _ in rows],
            trainer_state=SimpleNamespace(global_step=3),
            log_extra=lambda name, column: None,
            log_metric=metrics.__setitem__,
            data_source=["sums"] * len(rows),
            reward_model=[{"style": "rule", "ground_truth": case.gold or ""} for case, _ in rows],
            extra_info=[{"split": split, "query_id": case.query, "domain": "math"} for case, _ in rows],
        )
    values: dict[str, list[float]] = {case.name: [] for case in groups}
    for (case, _), value in zip(rows, rewards, strict=True):
        values[case.name].append(float("nan") if value is None else value)
    return Outcome(values, {name.removeprefix("memstore/"): value for name, value in metrics.items()})
