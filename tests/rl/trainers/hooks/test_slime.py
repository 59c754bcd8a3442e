"""What only the hook of slime and miles does: samples, evaluation, metrics, and slime's arguments."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.trainers import miles, slime
from memstore_rl.trainers.conformance.drivers.slime import RecordedSample
from memstore_rl.trainers.conformance.service import NotingService


def arguments(**changes: object) -> Any:
    given = {
        "n_samples_per_prompt": 2,
        "advantage_estimator": "grpo",
        "rewards_normalization": True,
        "grpo_std_normalization": True,
        "hf_checkpoint": "Qwen/Qwen2.5-1.5B",
        "group_rm": True,
    }
    return SimpleNamespace(**{**given, **changes})


def sample(index: int, response: str = "\\boxed{5}", split: str = "train", **fields: Any) -> RecordedSample:
    metadata = {"split": split, "domain": "math", "key": "q1"}
    given = {"label": {"ground_truth": "5"}, "metadata": metadata, "weight_versions": ["default", "7"]}
    return RecordedSample(3, index, "what is 2 + 3 ?", response, **{**given, **fields})


def test_samples_become_rollouts(service: NotingService) -> None:
    samples = [sample(10), sample(11, "\\boxed{6}")]
    assert asyncio.run(slime.group_rewards(arguments(), samples)) == [1.0, 0.0]
    [one] = service.noted
    assert (one.group.query.key, one.group.query.domain, one.group.query.gold) == ("q1", "math", "5")
    first, second = one.group.rollouts
    assert (first.policy, first.step, first.finish_reason) == ("Qwen/Qwen2.5-1.5B", 7, "completed")
    assert (first.sample_index, second.sample_index) == (10, 11)
    assert samples[0].metadata["key"] == "q1"
    assert samples[0].metadata["memstore"]["ground_truth_share"] == 1.0


def test_weights_without_a_number_are_no_step(service: NotingService) -> None:
    asyncio.run(slime.group_rewards(arguments(), [sample(0, weight_versions=[]), sample(1, weight_versions=["v1"])]))
    assert [rollout.step for rollout in service.noted[0].group.rollouts] == [None, None]


def test_training_sample_alone_is_refused(service: NotingService) -> None:
    with pytest.raises(InputError, match="one rollout of a training group came alone, .* add --group-rm"):
        asyncio.run(slime.group_rewards(arguments(), sample(0)))
    with pytest.raises(InputError, match=r"a row has no extra_info.split"):
        asyncio.run(slime.group_rewards(arguments(), sample(0, metadata={})))
    with pytest.raises(InputError, match="a rollout was split into several samples"):
        asyncio.run(slime.group_rewards(arguments(), [[sample(0)], [sample(1)]]))
    assert service.noted == []


def test_log_adds_the_sources_to_slimes_metrics(service: NotingService) -> None:
    samples = [sample(0), sample(1), sample(2, label=None), sample(3, label=None)]
    asyncio.run(slime.group_rewards(arguments(), samples[:2]))
    asyncio.run(slime.group_rewards(arguments(), samples[2:]))
    metrics = {"rollout/other": 1.0}
    assert slime.log_rollout(0, arguments(), [*samples, sample(4)], metrics, 2.5) is False
    assert metrics["memstore/ground_truth_share"] == metrics["memstore/predicted_share"] == 0.5
    assert metrics["rollout/other"] == 1.0
    assert slime.log_rollout(0, arguments(), samples, None, 2.5) is False


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, True),
        ({"grpo_std_normalization": False}, False),
        ({"advantage_estimator": "reinforce_plus_plus_baseline"}, False),
        ({"grpo_std_normalization": False, "rewards_normalization": False}, True),
        ({"advantage_estimator": "ppo", "grpo_std_normalization": False}, True),
    ],
)
def test_residual_rewards_fit_slimes_arguments(
    changes: dict[str, Any], refused: bool, service: NotingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "info", lambda: {"shaping": "residual"})
    call = slime.group_rewards(arguments(**changes), [sample(0), sample(1)])
    if refused:
        with pytest.raises(InputError, match="the service's shaping is residual"):
            asyncio.run(call)
    else:
        assert len(asyncio.run(call)) == 2


def test_cispo_subtracts_the_mean_in_slime_and_not_in_miles(
    service: NotingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "info", lambda: {"shaping": "residual"})
    given = arguments(advantage_estimator="cispo", grpo_std_normalization=False)
    assert len(asyncio.run(slime.group_rewards(given, [sample(0), sample(1)]))) == 2
    with pytest.raises(InputError, match="the service's shaping is residual"):
        asyncio.run(miles.group_rewards(given, [sample(0), sample(1)]))


def module(monkeypatch: pytest.MonkeyPatch, name: str, **names: object) -> None:
    """Put a module with these names where its trainer has it."""
    made = ModuleType(name)
    vars(made).update(names)
    parts = name.split(".")
    for depth in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), ModuleType(parts[depth - 1]))
    monkeypatch.setitem(sys.modules, name, made)


def test_evaluation_of_slime_runs_without_group_rm(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate_rollout(args: Any, rollout_id: int, data_source: Any, evaluation: bool = False) -> Any:
        return args.group_rm, rollout_id, data_source, evaluation

    module(monkeypatch, "slime.rollout.sglang_rollout", generate_rollout=generate_rollout)
    given = arguments()
    assert slime.evaluate(given, 5, "data", evaluation=True) == (False, 5, "data", True)
    assert given.group_rm


@dataclass
class Input:
    """miles' `RolloutFnConstructorInput`."""

    args: Any
    data_source: Any


def test_evaluation_of_miles_runs_without_group_rm(monkeypatch: pytest.MonkeyPatch) -> None:
    class InferenceRolloutFn:
        def __init__(self, input: Input) -> None:
            self.input = input

        async def __call__(self, input: str) -> tuple[bool, Any, str]:
            return self.input.args.group_rm, self.input.data_source, input

    name = "miles.rollout.inference_rollout.inference_rollout_common"
    module(monkeypatch, name, InferenceRolloutFn=InferenceRolloutFn)
    given = arguments()
    evaluation = miles.Evaluation(Input(given, "data"))
    assert asyncio.run(evaluation("input")) == (False, "data", "input")
    assert given.group_rm
