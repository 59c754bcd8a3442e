"""Drives the workflow for AReaL with one task a row, as AReaL's executor runs it.

Where AReaL is importable, its own `WorkflowExecutor` and `GroupedRolloutWorkflow` run the workflow, in AReaL's threads;
else the functions recorded below. The workflow inside gives prepared tensors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from memstore_rl.trainers.areal import GroupRewarding
from memstore_rl.trainers.conformance.driver import GroupCase, Outcome, in_environment
from memstore_rl.trainers.hook_settings import HookSettings
from memstore_rl.trainers.stopped import TrainingStopped

if TYPE_CHECKING:  # it comes with AReaL, and the client has none
    import torch

RECORDED = "the signatures recorded from AReaL 1.0.4"


class CharacterTokenizer:
    """One token a character."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return "".join(map(chr, tokens))


class PreparedWorkflow:
    """Gives a row's completions one after another, as AReaL's `RLVRWorkflow` returns them; the later ones end first."""

    async def arun_episode(self, engine: Any, data: dict[str, Any]) -> dict[str, torch.Tensor]:
        """A rollout as tensors."""
        import torch

        text = data["left"].pop(0)
        for _ in data["left"]:
            await asyncio.sleep(0)
        prompt, written = [ord("?")], [ord(letter) for letter in text + "<|im_end|>"]
        return {
            "input_ids": torch.tensor([prompt + written], dtype=torch.int32),
            "loss_mask": torch.tensor([[0] * len(prompt) + [1] * len(written)], dtype=torch.int32),
            "attention_mask": torch.ones(1, len(prompt) + len(written), dtype=torch.bool),
            "rewards": torch.zeros(1),
        }


class _Logged(GroupRewarding):
    """The workflow with its metrics in a list."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.logs: list[Mapping[str, float]] = []
        self.stopped: TrainingStopped | None = None

    async def _score(self, group: Any) -> Any:
        try:
            return await super()._score(group)
        except TrainingStopped as stopped:
            self.stopped = stopped
            raise

    def _log(self, metrics: Mapping[str, float]) -> None:
        self.logs.append(metrics)


class Driver:
    """See the module's docstring."""

    trainer = "areal"
    may_refuse = True

    def __init__(self) -> None:
        self._base: tuple[type[Any], ...] = (_Logged,)
        self._execute: Callable[..., list[Any]] = _execute
        try:
            from areal.api import RolloutWorkflow
            from areal.infra.remote_inf_engine import GroupedRolloutWorkflow  # noqa: F401
        except ImportError:
            self.against = RECORDED
        else:
            self.against = "AReaL's own WorkflowExecutor and GroupedRolloutWorkflow"
            self._base, self._execute = (_Logged, RolloutWorkflow), _own_execute

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of rows."""
        return self._run(groups, settings, "train")

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """A batch of validation rows."""
        return self._run(groups, settings, "validation")

    def _run(self, groups: Sequence[GroupCase], settings: HookSettings, split: str) -> Outcome:
        with in_environment(settings):
            workflow = type("Workflow", self._base, {})(
                tokenizer=CharacterTokenizer(), group_size=settings.group_size, workflow=PreparedWorkflow()
            )
            try:
                made = self._execute(workflow, [_row(case, split) for case in groups])
            except (TrainingStopped, RuntimeError) as ended:  # the process, or AReaL's thread and then its trainer
                if workflow.stopped is None:
                    raise
                raise workflow.stopped.__cause__ from ended
        if any(one is None for one in made):
            raise AssertionError("AReaL rejected a row")
        values = {case.name: _values(case, one) for case, one in zip(groups, made, strict=True)}
        names = workflow.logs[0]
        return Outcome(values, {name: sum(log[name] for log in workflow.logs) / len(workflow.logs) for name in names})


def _values(case: GroupCase, made: Mapping[str, torch.Tensor]) -> list[float]:
    """The rewards in the order of the completions."""
    decode = CharacterTokenizer().decode
    rewards = {}
    for tokens, mask, reward in zip(made["input_ids"], made["loss_mask"], made["rewards"], strict=True):
        rewards[decode(tokens[mask.bool()].tolist()).removesuffix("<|im_end|>")] = reward.item()
    return [rewards[text] for text in case.completions]


def _row(case: GroupCase, split: str) -> dict[str, Any]:
    return {"messages": case.messages, **case.columns(split), "left": list(case.completions)}


def _joined(results: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """As AReaL's `concat_padded_tensors`."""
    import torch

    longest = max(one["input_ids"].shape[1] for one in results)

    def padded(name: str, tensor: torch.Tensor) -> torch.Tensor:
        return tensor if name == "rewards" else torch.nn.functional.pad(tensor, (0, longest - tensor.shape[1]))

    return {name: torch.cat([padded(name, one[name]) for one in results]) for name in results[0]}


def _execute(workflow: Any, rows: Sequence[dict[str, Any]]) -> list[Any]:
    """As AReaL runs rows: a task each, whose errors are only logged, and `n_samples` rollouts in it."""

    async def task(row: dict[str, Any]) -> Any:
        try:
            runs = [workflow.arun_episode(None, row) for _ in range(len(row["left"]))]
            return _joined([one for one in await asyncio.gather(*runs) if one is not None])
        except Exception:  # AReaL logs it and rejects the row
            return None

    async def batch() -> list[Any]:
        return await asyncio.gather(*(task(row) for row in rows))

    return asyncio.run(batch())


def _own_execute(workflow: Any, rows: Sequence[dict[str, Any]]) -> list[Any]:
    import logging

    from areal.api.cli_args import InferenceEngineConfig
    from areal.infra.remote_inf_engine import GroupedRolloutWorkflow
    from areal.infra.workflow_executor import WorkflowExecutor

    logger = logging.getLogger(__name__)
    config = InferenceEngineConfig(
        max_concurrent_rollouts=16, consumer_batch_size=len(rows), max_head_offpolicyness=100
    )
    executor = WorkflowExecutor(config, _Engine())
    executor.initialize(logger=logger, train_data_parallel_size=1)
    try:
        numbers = [executor.submit(row, GroupedRolloutWorkflow(workflow, len(row["left"]), logger)) for row in rows]
        return [executor.wait_for_task(number, timeout=60) for number in numbers]
    finally:
        executor.destroy()


class _Engine:
    """AReaL's engine, which the prepared workflow does not ask."""

    def get_version(self) -> int:
        """The version of the weights."""
        return 0
