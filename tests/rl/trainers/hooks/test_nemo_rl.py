"""The environment for NeMo-RL: what it needs of a batch, what it returns, and its row processor."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.trainers import nemo_rl
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.nemo_rl import RewardEnvironment, row_metadata, row_processor


def row(question: str = "what is 2 + 3 ?", split: str = "train", gold: str = "5") -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": question}],
        "data_source": "sums",
        "reward_model": {"ground_truth": gold},
        "extra_info": {"split": split, "domain": "math"},
        "task_name": "sums",
    }


def log(*written: str) -> list[dict[str, str]]:
    turns = [{"role": "assistant", "content": text} for text in written]
    return [{"role": "user", "content": "<|im_start|>user\nwhat is 2 + 3 ?<|im_end|>\n"}, *turns]


def test_two_groups_of_one_prompt_are_apart_in_any_order(service: NotingService) -> None:
    first, second = row_metadata(row()), row_metadata(row())
    logs = [log("\\boxed{5}"), log("\\boxed{6}"), log("\\boxed{7}"), log("\\boxed{5}")]
    returned = RewardEnvironment({"group_size": 2}).step(logs, [first, second, first, second])
    assert returned.rewards.tolist() == [1.0, 0.0, 0.0, 1.0]
    assert [[rollout.response for rollout in one.group.rollouts] for one in service.noted] == [
        ["\\boxed{5}", "\\boxed{7}"],
        ["\\boxed{6}", "\\boxed{5}"],
    ]
    assert {one.group.query.text for one in service.noted} == {"what is 2 + 3 ?"}


def test_every_rollout_ends(service: NotingService) -> None:
    given = row_metadata(row())
    returned = RewardEnvironment({"group_size": 1}).step([log("\\boxed{5}")], [given])
    assert returned.terminateds.tolist() == [True]
    assert returned.metadata == [given]
    assert (returned.next_stop_strings, returned.answers) == ([None], None)
    assert returned.observations[0]["content"]  # NeMo-RL cannot join the tokens of an empty text


def test_a_batch_may_hold_rows_of_an_evaluation(service: NotingService) -> None:
    train, held = row_metadata(row()), row_metadata(row(split="validation"))
    logs = [log("\\boxed{6}"), log("\\boxed{5}"), log("\\boxed{5}")]
    environment = RewardEnvironment({"group_size": 2})
    assert environment.step(logs, [train, held, train]).rewards.tolist() == [0.0, 1.0, 1.0]
    assert [(one.record, one.group.mode) for one in service.noted] == [(True, None), (False, "oracle")]
    assert environment.global_post_process_and_metrics("batch")[1]["memstore/ground_truth_share"] == 1.0


def test_a_rollout_alone_is_refused_in_the_training_only(service: NotingService) -> None:
    environment = RewardEnvironment({"group_size": 2})
    with pytest.raises(InputError, match=r"NeMo-RL passed 1 of 2 rollouts .* set policy\.generation\.vllm_cfg\.async"):
        environment.step([log("5")], [row_metadata(row())])
    assert environment.step([log("\\boxed{5}")], [row_metadata(row(split="test"))]).rewards.tolist() == [1.0]


def test_rows_without_an_id_are_refused(service: NotingService) -> None:
    for metadata in (None, {"ground_truth": "5"}):
        with pytest.raises(InputError, match=r"a row has no id of its group; set data\.train\.processor=memstore"):
            RewardEnvironment({"group_size": 1}).step([log("5")], [metadata])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, r"env\.memstore\.group_size of the configuration is wrong: Field required"),
        (
            {"group_size": 8, "num_workers": 2},
            r"env\.memstore\.num_workers of the configuration is wrong: Extra inputs",
        ),
    ],
)
def test_configuration_is_checked(config: dict[str, Any], message: str, service: NotingService) -> None:
    with pytest.raises(InputError, match=message):
        RewardEnvironment(config)


def test_a_service_with_shaping_residual_needs_no_division(
    service: NotingService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "info", lambda: {"shaping": "residual"})
    with pytest.raises(InputError, match="the service's shaping is residual"):
        RewardEnvironment({"group_size": 1}).step([log("5")], [row_metadata(row())])
    returned = RewardEnvironment({"group_size": 1, "mean_only": True}).step([log("5")], [row_metadata(row())])
    assert len(returned.rewards) == 1


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """NeMo-RL's `math_hf_data_processor`, as far as the hook uses it; its arguments come back."""
    seen: dict[str, Any] = {}

    def math_hf_data_processor(datum: Any, spec: Any, tokenizer: Any, max_seq_length: int, idx: int) -> Any:
        seen.update(datum)
        return {"message_log": [], "idx": idx, "extra_env_info": {"ground_truth": datum["messages"][1]["content"]}}

    module = ModuleType("nemo_rl.data.processors")
    module.math_hf_data_processor = math_hf_data_processor  # type: ignore[attr-defined]  # a stand-in
    for name in ("nemo_rl", "nemo_rl.data"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "nemo_rl.data.processors", module)
    return seen


def test_the_processor_gives_a_row_a_new_id_each_time(processors: dict[str, Any]) -> None:
    made = [row_processor(row(), None, None, 100, 3) for _ in range(2)]
    assert [datum["idx"] for datum in made] == [3, 3]
    own = [datum["extra_env_info"]["memstore"] for datum in made]
    assert own[0]["group"] != own[1]["group"]
    assert own[0]["reward_model"] == {"ground_truth": "5"}
    assert processors["messages"][0]["content"] == "what is 2 + 3 ?"


def test_the_processor_refuses_other_prompts(processors: dict[str, Any]) -> None:
    system = {"role": "system", "content": "Think."}
    with pytest.raises(InputError, match=r"a prompt is not one message of a user"):
        row_processor({**row(), "messages": [system, *row()["messages"]]}, None, None, 100, 0)


def test_only_the_actor_is_made_on_demand() -> None:
    assert nemo_rl.ACTOR == "memstore_rl.trainers.nemo_rl.RewardActor"
    with pytest.raises(AttributeError, match="has no attribute 'Environment'"):
        _ = nemo_rl.Environment
