"""Drives the environment for NeMo-RL with the batch of a step, whose rows are copied as NeMo-RL copies them.

Where NeMo-RL is importable, its own `BatchedDataDict` repeats the rows, and its own `calculate_rewards` calls the
environment as a Ray actor; else the functions recorded below.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.hook_settings import HookSettings
from memstore_rl.trainers.nemo_rl import RewardEnvironment, row_metadata

RECORDED = "the signatures recorded from NVIDIA-NeMo/RL 7ea279ab"


class Driver:
    """See the module's docstring."""

    trainer = "nemo-rl"
    may_refuse = True

    def __init__(self) -> None:
        try:
            from nemo_rl.experience import rollouts  # noqa: F401
        except ImportError:
            self.against, self._step = RECORDED, _step
        else:
            self.against, self._step = "NeMo-RL's own BatchedDataDict and calculate_rewards, in Ray", _own_step

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of a step."""
        return self._run(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of a validation."""
        return self._run(groups, settings, "validation")

    def _run(self, groups: Sequence[GroupCase], settings: HookSettings, split: str) -> Outcome:
        rows = [{"messages": case.messages, **case.columns(split)} for case in groups]
        texts = [case.completions for case in groups]
        config = {"group_size": settings.group_size, "mean_only": settings.mean_only}
        with in_environment(settings):
            rewards, metrics = self._step(config, rows, texts)
        values: dict[str, list[float]] = {}
        for case in groups:
            values[case.name], rewards = rewards[: len(case.completions)], rewards[len(case.completions) :]
        return Outcome(values, {name.removeprefix("memstore/"): value for name, value in metrics.items()})


def _log(row: Mapping[str, Any], text: str) -> list[dict[str, str]]:
    prompt = f"<|im_start|>user\n{row['messages'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]


_Step = Callable[
    [Mapping[str, Any], Sequence[Mapping[str, Any]], Sequence[Sequence[str]]], tuple[list[float], Mapping[str, float]]
]


def _step(
    config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], texts: Sequence[Sequence[str]]
) -> tuple[list[float], Mapping[str, float]]:
    """As NeMo-RL repeats the rows of a batch and calls the environment."""
    environment = RewardEnvironment(config)
    made = [(row, row_metadata(row)) for row in rows]
    logs = [_log(row, text) for (row, _), of_row in zip(made, texts, strict=True) for text in of_row]
    infos = [copy.deepcopy(info) for (_, info), of_row in zip(made, texts, strict=True) for _ in of_row]
    _observations, _metadata, _stops, rewards, _terminateds, _answers = environment.step(logs, infos)
    return rewards.tolist(), environment.global_post_process_and_metrics({})[1]


def _own_step(
    config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], texts: Sequence[Sequence[str]]
) -> tuple[list[float], Mapping[str, float]]:
    import os

    import ray
    from nemo_rl.distributed.batched_data_dict import BatchedDataDict
    from nemo_rl.experience.rollouts import calculate_rewards

    from memstore_rl.trainers.nemo_rl import RewardActor

    parts = []
    for row, of_row in zip(rows, texts, strict=True):
        batch = BatchedDataDict({"extra_env_info": [row_metadata(row)], "task_name": ["sums"]})
        part = batch.repeat_interleave(len(of_row))
        part["message_log"] = [_log(row, text) for text in of_row]
        parts.append(part)
    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    actor = RewardActor.options(runtime_env={"env_vars": dict(os.environ)}).remote(config)
    try:
        returned = calculate_rewards(BatchedDataDict.from_batches(parts), {"sums": actor})
        _, metrics = ray.get(actor.global_post_process_and_metrics.remote({}))
    finally:
        ray.kill(actor)
    return returned.rewards.tolist(), metrics
