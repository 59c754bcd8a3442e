"""verl 0.9.1's own reward loop, agent loops, data set, GRPO advantage and loss, with our hook in them, on one CPU.

One Ray for the whole file: starting it and the workers' imports are most of its time.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop import RewardLoopManager

from memstore_rl.verl.reply import EXTRA_KEYS
from memstore_rl.verl.scorers import own_name

pytestmark = [pytest.mark.usefixtures("ray_cluster"), pytest.mark.slow]

GROUP = 4
MANAGER = (
    "reward.reward_manager.source=importlib",
    "reward.reward_manager.module.path=pkg://memstore_rl.verl.manager",
    "reward.reward_manager.name=GroupRewardManager",
    f"actor_rollout_ref.rollout.n={GROUP}",
)


@pytest.fixture(scope="module")
def reward_loop(verl_config: Callable[..., Any]) -> Iterator[RewardLoopManager]:
    """verl's reward loop with two workers and our manager; rewards by ground truth."""
    config = verl_config(*MANAGER, "+memstore.mode=oracle")
    loop = RewardLoopManager(config)
    yield loop
    for worker in loop.reward_loop_workers:
        ray.kill(worker)


def one(value: object) -> Any:
    """An object array of one."""
    array = np.empty(1, dtype=object)
    array[0] = value
    return array


@pytest.fixture(scope="module")
def rollout(tiny_policy: Path) -> Callable[..., DataProto]:
    """A rollout as verl's agent loop sends it to be scored."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)

    def made(uid: str, response: str, gold: str = "5", split: str = "train") -> DataProto:
        tokens = torch.tensor([[*tokenizer.encode(response), tokenizer.eos_token_id]])
        ones = torch.ones(1, 4, dtype=torch.long)
        mask = torch.ones(1, 4 + tokens.shape[1], dtype=torch.long)
        row = {
            "uid": uid,
            "data_source": "additions",
            "raw_prompt": [{"role": "user", "content": "what is 2 + 3 ?"}],
            "reward_model": {"style": "rule", "ground_truth": gold},
            "extra_info": {"split": split, "index": 0, "domain": "math"},
        }
        tensors = TensorDict({"prompts": ones, "responses": tokens, "attention_mask": mask}, batch_size=1)
        return DataProto(batch=tensors, non_tensor_batch={name: one(value) for name, value in row.items()})

    return made


def sent(loop: RewardLoopManager, rollouts: list[DataProto]) -> list[Any]:
    """Sent as verl's agent loop does: each to a worker chosen at random."""
    return [random.choice(loop.reward_loop_worker_handles).compute_score.remote(item) for item in rollouts]


def test_siblings_on_different_workers_are_one_group(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    answers = ["the answer is \\boxed{5}", "the answer is \\boxed{6}", "\\boxed{5}", "I do not know"]
    scored = ray.get(sent(reward_loop, [rollout("u", answer) for answer in answers]))
    assert [reply["reward_score"] for reply in scored] == [1.0, 0.0, 1.0, 0.0]
    for reply in scored:
        extra = reply["reward_extra_info"]
        assert tuple(extra) == EXTRA_KEYS
        assert (extra["source"], extra["from_ground_truth"], extra["group_size"]) == ("ground_truth", 1.0, 4.0)
        assert extra["group_short"] == 0.0


def test_four_thousand_in_flight_on_two_workers_and_every_group_is_full(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    groups = [f"many-{number}" for number in range(1000)]
    asked = [rollout(group, "\\boxed{5}") for group in groups]
    first = [reference for _ in range(GROUP - 1) for reference in sent(reward_loop, asked)]
    gate = ray.get_actor(own_name("gate"))
    deadline = time.monotonic() + 200
    while (waiting := ray.get(gate.waiting.remote())) < len(first) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert waiting == 3000  # on two workers, which take 1,000 calls each if nobody says otherwise
    scored = ray.get([*first, *sent(reward_loop, asked)], timeout=200)
    sizes = Counter((r["reward_extra_info"]["group_size"], r["reward_extra_info"]["group_short"]) for r in scored)
    assert sizes == {(4.0, 0.0): 4000}
    assert {reply["reward_score"] for reply in scored} == {1.0}


def test_validation_is_scored_alone_by_ground_truth(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    scored = ray.get(sent(reward_loop, [rollout("v", "\\boxed{5}", split="validation") for _ in range(7)]), timeout=60)
    assert [reply["reward_score"] for reply in scored] == [1.0] * 7
    assert {reply["reward_extra_info"]["source"] for reply in scored} == {"ground_truth"}


def test_a_row_without_gold_ends_the_step_in_one_sentence_and_is_never_a_zero(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    asked = sent(reward_loop, [rollout("blank", "\\boxed{5}", gold="") for _ in range(GROUP)])
    with pytest.raises(
        ray.exceptions.RayTaskError, match=r"Unscored: 4 of 4 rollouts of a group have no reward"
    ) as told:
        ray.get(asked)
    assert "carries no gold answer" in str(told.value)


def test_a_row_that_does_not_say_its_split_is_refused(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match=r"a row has no extra_info\.split"):
        ray.get(sent(reward_loop, [rollout("nosplit", "\\boxed{5}", split="")]))
