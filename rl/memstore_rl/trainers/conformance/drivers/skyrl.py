"""Drives the hook of SkyRL as its trainer and its evaluation do: a batch of all prompts through the generator.

The batch is SkyRL's own `prepare_generator_input` where SkyRL is importable; else the one recorded below.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic.errors import PydanticUserError

from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.hook_settings import HookSettings
from memstore_rl.trainers.skyrl import GroupRewardGenerator

RECORDED = "the signatures recorded from SkyRL 0.3.0 and NovaSky-AI/SkyRL a9564572 (0.4)"


class RecordedTrajectoryID(NamedTuple):
    """SkyRL's `TrajectoryID`."""

    instance_id: str
    repetition_id: int


class RecordedBatchMetadata(NamedTuple):
    """SkyRL's `BatchMetadata`."""

    global_step: int
    training_phase: str


class Driver:
    """See the module's docstring."""

    trainer = "skyrl"
    may_refuse = True

    def __init__(self) -> None:
        self.against, self._prepare = RECORDED, _prepare
        try:
            from skyrl.train.generators.utils import prepare_generator_input
        except (ImportError, PydanticUserError):  # SkyRL 0.3.0 on Python 3.11: its types need Python 3.12
            return
        self.against, self._prepare = "SkyRL's own prepare_generator_input", prepare_generator_input

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A step."""
        return self._generate(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """An evaluation."""
        return self._generate(groups, settings, "eval")

    def _generate(self, groups: Sequence[GroupCase], settings: HookSettings, phase: str) -> Outcome:
        batch, uids = _batch(self._prepare, groups, phase)
        with in_environment(settings):
            generator = GroupRewardGenerator(_Generator(groups), _Tokenizer(), group_size=settings.group_size)
            output = asyncio.run(generator.generate(batch))
        values: dict[str, list[float]] = {case.name: [] for case in groups}
        for uid, value in zip(uids, output["rewards"], strict=True):
            values[uid].append(value)
        metrics = output["rollout_metrics"].items()
        return Outcome(values, {name.removeprefix("memstore/"): value for name, value in metrics})


class _Generator:
    """SkyRL's generator: the completions of the cases as tokens, in the order of the batch, with zeros as rewards."""

    def __init__(self, groups: Sequence[GroupCase]) -> None:
        self._completions = {case.name: case.completions for case in groups}

    async def generate(self, input_batch: Mapping[str, Any]) -> dict[str, Any]:
        texts = [self._completions[one.instance_id][one.repetition_id] for one in input_batch["trajectory_ids"]]
        tokens = [[*map(ord, f"{text}<|im_end|>")] for text in texts]
        return {
            "prompt_token_ids": [[0] for _ in texts],
            "response_ids": tokens,
            "rewards": [0.0] * len(texts),
            "loss_masks": [[1] * len(one) for one in tokens],
            "rollout_metrics": {"generate/avg_num_tokens": 1.0},
        }


class _Tokenizer:
    """One token a character."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, tokens))


def _batch(prepare: Callable[..., Any], groups: Sequence[GroupCase], phase: str) -> tuple[dict[str, Any], list[str]]:
    """The batch of SkyRL for prompts with as many samples as their cases have completions."""
    parts = [prepare([_row(case, phase)], len(case.completions), {}, "gsm8k", phase, 3) for case in groups]
    batch = dict(parts[0][0])
    for name in ("prompts", "env_classes", "env_extras", "trajectory_ids"):
        batch[name] = [one for part, _ in parts for one in part[name]]
    return batch, [uid for _, uids in parts for uid in uids]


def _row(case: GroupCase, phase: str) -> dict[str, Any]:
    """A row of SkyRL's `PromptDataset`: what `memstore verl data` writes, the prompt apart."""
    extras = case.columns("train" if phase == "train" else "validation")
    return {"prompt": case.messages, "env_class": None, "env_extras": extras, "uid": case.name}


def _prepare(
    prompts: Sequence[Mapping[str, Any]], samples: int, sampling: Any, env_class: str, phase: str, step: int
) -> tuple[dict[str, Any], list[str]]:
    """As SkyRL's `prepare_generator_input`."""
    repeated = [(prompt, number) for prompt in prompts for number in range(samples)]
    batch = {
        "prompts": [prompt["prompt"] for prompt, _ in repeated],
        "env_classes": [prompt["env_class"] or env_class for prompt, _ in repeated],
        "env_extras": [dict(prompt["env_extras"]) for prompt, _ in repeated],
        "sampling_params": sampling,
        "trajectory_ids": [RecordedTrajectoryID(prompt["uid"], number) for prompt, number in repeated],
        "batch_metadata": RecordedBatchMetadata(step, phase),
    }
    return batch, [prompt["uid"] for prompt, _ in repeated]
