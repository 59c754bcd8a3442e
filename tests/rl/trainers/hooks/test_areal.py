"""The workflow for AReaL: what it does with rollouts that are left out, with failures and with other workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from memstore.errors import InputError
from memstore_rl.trainers import areal
from memstore_rl.trainers.areal import GroupRewarding, no_reward
from memstore_rl.trainers.conformance.drivers.areal import CharacterTokenizer, PreparedWorkflow
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.stopped import TrainingStopped


class Workflow(GroupRewarding):
    """The workflow with its metrics in a list."""

    def __init__(self, inner: Any = None, **arguments: Any) -> None:
        given = {"tokenizer": CharacterTokenizer(), "group_size": 2, "workflow": inner or PreparedWorkflow()}
        super().__init__(**{**given, **arguments})
        self.logs: list[Mapping[str, float]] = []

    def _log(self, metrics: Mapping[str, float]) -> None:
        self.logs.append(metrics)


def row(*texts: str, split: str = "train") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": "what is 2 + 3 ?"}],
        "reward_model": {"ground_truth": "5"},
        "extra_info": {"split": split, "domain": "math"},
        "left": list(texts),
    }


def run(workflow: GroupRewarding, data: dict[str, Any]) -> list[dict[str, Any] | None]:
    """The rollouts of a row, as AReaL starts them."""

    async def task() -> list[dict[str, Any] | None]:
        return await asyncio.gather(*[workflow.arun_episode(None, data) for _ in range(len(data["left"]))])

    return asyncio.run(task())


class Leaves(PreparedWorkflow):
    """Leaves out rollouts without an answer."""

    async def arun_episode(self, engine: Any, data: dict[str, Any]) -> Any:
        made = await super().arun_episode(engine, data)
        return None if made["loss_mask"].sum() == len("<|im_end|>") else made


class Fails(PreparedWorkflow):
    """Fails at rollouts without an answer."""

    async def arun_episode(self, engine: Any, data: dict[str, Any]) -> Any:
        made = await super().arun_episode(engine, data)
        if made["loss_mask"].sum() == len("<|im_end|>"):
            raise ConnectionError("the engine is gone")
        return made


def test_only_the_reward_of_a_rollout_changes(service: NotingService) -> None:
    workflow = Workflow()
    first, second = run(workflow, row("\\boxed{5}", "\\boxed{6}"))
    assert first is not None
    assert second is not None
    assert (first["rewards"].tolist(), second["rewards"].tolist()) == ([1.0], [0.0])
    assert first["rewards"].dtype == torch.float32
    assert first.keys() == {"input_ids", "loss_mask", "attention_mask", "rewards"}
    assert sorted((log["reward"], log["ground_truth_share"]) for log in workflow.logs) == [(0.0, 1.0), (1.0, 1.0)]
    [one] = service.noted
    assert {rollout.response for rollout in one.group.rollouts} == {"\\boxed{5}", "\\boxed{6}"}


@pytest.mark.parametrize("texts", [("", "\\boxed{5}"), ("\\boxed{5}", "")])
def test_a_rollout_that_is_left_out_makes_the_group_short(texts: tuple[str, str], service: NotingService) -> None:
    made = run(Workflow(Leaves()), row(*texts))
    assert [one["rewards"].tolist() for one in made if one is not None] == [[1.0]]
    [one] = service.noted
    assert one.rewards[0].short


def test_a_group_that_is_left_out_is_not_scored(service: NotingService) -> None:
    assert run(Workflow(Leaves()), row("", "")) == [None, None]
    assert service.noted == []


@pytest.mark.parametrize("texts", [("", "\\boxed{5}"), ("\\boxed{5}", "")])
def test_a_failure_of_the_generation_stays_one(texts: tuple[str, str], service: NotingService) -> None:
    with pytest.raises(ConnectionError, match="the engine is gone"):
        run(Workflow(Fails()), row(*texts))
    assert service.noted == []


def test_a_failure_of_the_reward_passes_except_exception(service: NotingService) -> None:
    with pytest.raises(TrainingStopped, match=r"a row has no extra_info\.split") as stopped:
        run(Workflow(), row("5", split=""))
    assert not isinstance(stopped.value, Exception)
    assert isinstance(stopped.value.__cause__, InputError)


class Agent:
    """A workflow that returns no tensors."""

    async def arun_episode(self, engine: Any, data: dict[str, Any]) -> dict[str, Any]:
        return {"completion": object()}


def test_a_workflow_without_tensors_is_refused(service: NotingService) -> None:
    with pytest.raises(TrainingStopped, match="a workflow returned no tensors of one rollout"):
        run(Workflow(Agent()), row("5"))


class Given:
    """Takes what a class of AReaL takes."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments


def test_the_class_of_the_generating_workflow_gets_tokenizer_and_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(areal, "Given", Given, raising=False)
    tokenizer = CharacterTokenizer()
    made = areal._workflow("memstore_rl.trainers.areal.Given", {"tokenizer": tokenizer, "reward_fn": no_reward})
    assert made.arguments == {"tokenizer": tokenizer, "reward_fn": no_reward}
    assert no_reward("prompt", "completion", answer="5") == 0.0


def test_only_the_workflow_is_made_on_demand() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Workflow'"):
        _ = areal.Workflow
