"""Drives the hook of OpenRLHF as its engine does: one task for each prompt, whose rollouts are gathered.

The executor is OpenRLHF's own `SingleTurnAgentExecutor` where OpenRLHF is importable; else the one recorded below. The
engine's `generate_responses` is recorded, because its module needs vLLM.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from memstore_rl.trainers import openrlhf
from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.hook_settings import HookSettings

RECORDED = "the signatures recorded from OpenRLHF 0.11.2"


class RecordedExecutor:
    """What the hook needs of OpenRLHF's `SingleTurnAgentExecutor`: a rollout as tokens, without a reward."""

    async def execute(
        self,
        prompt: str,
        label: Any,
        sampling_params: Any,
        max_length: int,
        hf_tokenizer: Any,
        llm_engine: Any,
        images: Any = None,
    ) -> dict[str, Any]:
        """Generate one rollout."""
        tokens = hf_tokenizer(text=prompt, add_special_tokens=False, return_tensors="pt")["input_ids"][0].tolist()
        request = await llm_engine.generate(tokens, sampling_params, multi_modal_data=None)
        written = request.outputs[0].token_ids
        return {
            "prompt": prompt,
            "label": label,
            "observation_tokens": tokens + written,
            "action_ranges": [(len(tokens), len(tokens) + len(written))],
            "reward": None,
            "scores": None,
            "extra_logs": {},
        }


class _RecordedAgent(openrlhf.GroupExecutor, RecordedExecutor):  # type: ignore[misc]  # called by name
    """The hook over the recorded executor."""


class _Tokenizer:
    """One token a character."""

    def __call__(self, text: str, **options: Any) -> dict[str, list[Any]]:
        tokens = [ord(character) for character in text]
        return {"input_ids": [SimpleNamespace(tolist=lambda: tokens)]}

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, tokens))


class _Engine:
    """Gives prepared completions, the later ones first, as an engine may finish them."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    async def generate(self, tokens: Any, sampling_params: Any, multi_modal_data: Any = None) -> Any:
        left = sampling_params.completions
        text = left.pop(0)
        for _ in left:  # the rollouts that are started later end first
            await asyncio.sleep(0)
        written = [ord(character) for character in text]
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=written, finish_reason="stop", logprobs=None)])

    async def generate_responses(
        self, prompt: str, label: Any, sampling_params: Any, max_length: int, hf_tokenizer: Any, num_samples: int
    ) -> list[dict[str, Any]]:
        """As `RolloutRayActor.generate_responses` of OpenRLHF."""
        tasks = [
            self._executor.execute(
                prompt=prompt,
                label=label,
                sampling_params=sampling_params,
                max_length=max_length,
                hf_tokenizer=hf_tokenizer,
                llm_engine=self,
                images=None,
            )
            for _ in range(num_samples)
        ]
        outputs: list[dict[str, Any]] = await asyncio.gather(*tasks)
        return outputs


class _SamplingParams:
    """vLLM's parameters as far as the executor reads them; copies share the completions that are left."""

    max_tokens = 4_096
    logprobs = None

    def __init__(self, completions: Sequence[str]) -> None:
        self.completions = list(completions)

    def __deepcopy__(self, memo: Any) -> _SamplingParams:
        return self


class Driver:
    """See the module's docstring."""

    trainer = "openrlhf"
    may_refuse = True

    def __init__(self) -> None:
        try:
            self._executor: type[Any] = openrlhf.AgentExecutor
            self.against = "OpenRLHF's own SingleTurnAgentExecutor, and its engine's call as recorded from 0.11.2"
        except ImportError:
            self._executor, self.against = _RecordedAgent, RECORDED

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of prompts, each a call of the engine."""
        return self._rollout(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of an evaluation, which is generated in the same way."""
        return self._rollout(groups, settings, "validation")

    def _rollout(self, groups: Sequence[GroupCase], settings: HookSettings, split: str) -> Outcome:
        engine = _Engine(self._executor())

        async def generate() -> list[list[dict[str, Any]]]:
            calls = [asyncio.ensure_future(engine.generate_responses(**_request(case, split))) for case in groups]
            return await asyncio.gather(*calls)

        with in_environment(settings):
            batch = asyncio.run(generate())
        values = {
            case.name: [output["reward"] for output in outputs] for case, outputs in zip(groups, batch, strict=True)
        }
        logs = [output["extra_logs"] for outputs in batch for output in outputs]
        metrics = {name: sum(log[name] for log in logs) / len(logs) for name in logs[0]}
        return Outcome(values, {name.removeprefix("memstore/"): value for name, value in metrics.items()})


def _request(case: GroupCase, split: str) -> dict[str, Any]:
    label = {
        "data_source": "sums",
        "reward_model": {"style": "rule", "ground_truth": case.gold or ""},
        "extra_info": {"split": split, "domain": "math"},
    }
    return {
        "prompt": f"<|im_start|>user\n{case.query}<|im_end|>\n<|im_start|>assistant\n",
        "label": label,
        "sampling_params": _SamplingParams([f"{text}<|im_end|>" for text in case.completions]),
        "max_length": 100_000,
        "hf_tokenizer": _Tokenizer(),
        "num_samples": len(case.completions),
    }
