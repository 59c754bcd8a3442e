"""verl 0.9.1's own reward loop, agent loops, data set, GRPO advantage and loss, with our hook in them, on one CPU.

One Ray for the whole file: starting it and the workers' imports are most of its time.
"""

from __future__ import annotations

import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import ray
import torch
from tensordict import TensorDict
from verl import DataProto
from verl.experimental.reward_loop import RewardLoopManager

from memstore_rl.trainers.verl.reply import EXTRA_KEYS
from memstore_rl.trainers.verl.scorers import actor_name
from memstore_rl.trainers.verl.settings import hook_settings

pytestmark = [
    pytest.mark.usefixtures("ray_cluster"),
    pytest.mark.slow,
    pytest.mark.timeout(1_200),  # the first test starts Ray and its workers, which import verl
    pytest.mark.xdist_group("ray"),
]

GROUP = 4
MANAGER = (
    "reward.reward_manager.source=importlib",
    "reward.reward_manager.module.path=pkg://memstore_rl.trainers.verl.manager",
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

    def made(uid: str, response: str, gold: str = "5", split: str = "train", **more: int) -> DataProto:
        tokens = torch.tensor([[*tokenizer.encode(response), tokenizer.eos_token_id]])
        ones = torch.ones(1, 4, dtype=torch.long)
        mask = torch.ones(1, 4 + tokens.shape[1], dtype=torch.long)
        row = {
            "uid": uid,
            "data_source": "additions",
            "raw_prompt": [{"role": "user", "content": "what is 2 + 3 ?"}],
            "reward_model": {"style": "rule", "ground_truth": gold},
            "extra_info": {"split": split, "index": 0, "domain": "math"},
            **more,
        }
        tensors = TensorDict({"prompts": ones, "responses": tokens, "attention_mask": mask}, batch_size=1)
        return DataProto(batch=tensors, non_tensor_batch={name: one(value) for name, value in row.items()})

    return made


def sent(loop: RewardLoopManager, rollouts: list[DataProto]) -> list[Any]:
    """Sent as verl's agent loop does: each to a worker chosen at random."""
    return [random.choice(loop.reward_loop_worker_handles).compute_score.remote(item) for item in rollouts]


def gate_of(loop: RewardLoopManager, deadline: float) -> Any:
    """The gate of these workers: made by whichever of them is called first, so it may not be there at once."""
    name = actor_name("group_barrier", hook_settings(loop.config))
    while True:
        try:
            return ray.get_actor(name)
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


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
    deadline = time.monotonic() + 200
    gate = gate_of(reward_loop, deadline)
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
    scored = ray.get(sent(reward_loop, [rollout("v", "\\boxed{5}", split="validation") for _ in range(7)]), timeout=200)
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


@pytest.fixture(scope="module")
def adding_policy(tiny_policy: Path) -> Any:
    """Stands for verl's language model server: of a prompt's rollouts every other one adds rightly."""

    class AddingPolicy:
        def __init__(self) -> None:
            self.tokenizer: Any = None
            self.asked: Counter[str] = Counter()

        async def generate(self, request_id: str, *, prompt_ids: list[int], **options: Any) -> Any:
            from transformers import AutoTokenizer
            from verl.workers.rollout.replica import TokenOutput

            tokenizer = self.tokenizer = self.tokenizer or AutoTokenizer.from_pretrained(tiny_policy)
            first, second = re.findall(r"\d+", tokenizer.decode(prompt_ids))
            self.asked[first] += 1
            said = f"\\boxed{{{int(first) + int(second) + self.asked[first] % 2}}}"
            return TokenOutput(token_ids=[*tokenizer.encode(said), tokenizer.eos_token_id], stop_reason="completed")

    return AddingPolicy()


def prompts(config: Any, file: Path, tiny_policy: Path, size: int) -> dict[str, Any]:
    """The first batch of verl's own data set, with the uid that its trainer gives each prompt."""
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    dataset = RLHFDataset(str(file), tokenizer=tokenizer, config=config.data, processor=None)
    batch: dict[str, Any] = next(iter(DataLoader(dataset, batch_size=size, collate_fn=collate_fn)))
    batch["uid"] = np.array([str(uuid4()) for _ in range(size)], dtype=object)
    return batch


def test_a_grpo_step_of_verl_with_groups_that_straddle_its_agent_workers(
    reward_loop: RewardLoopManager,
    adding_policy: Any,
    verl_rows: Path,
    tiny_policy: Path,
) -> None:
    """Agent loop of the v0 trainer -> reward loop -> reward -> GRPO advantage -> policy loss -> a gradient."""
    from transformers import AutoModelForCausalLM
    from verl.experimental.agent_loop import AgentLoopManager
    from verl.trainer.ppo.core_algos import AdvantageEstimator, get_policy_loss_fn
    from verl.trainer.ppo.ray_trainer import compute_advantage
    from verl.trainer.ppo.reward import extract_reward
    from verl.utils.config import omega_conf_to_dataclass

    config = reward_loop.config
    agents = AgentLoopManager.create(
        config=config, llm_client=adding_policy, reward_loop_worker_handles=reward_loop.reward_loop_worker_handles
    )
    rows = prompts(config, verl_rows / "train_oracle.parquet", tiny_policy, size=3)
    asked = DataProto.from_single_dict(rows).repeat(GROUP, interleave=True)
    asked.meta_info["global_steps"] = 1
    batch = agents.generate_sequences(asked)

    reward, extra = extract_reward(batch)
    assert set(extra) == set(EXTRA_KEYS)
    assert extra["group_size"].tolist() == [4.0] * 12
    assert reward.sum(-1).tolist() == extra["score"].tolist()
    assert reward.sum(-1).view(3, GROUP).mean(1).tolist() == [0.5] * 3

    batch.batch["token_level_scores"] = batch.batch["token_level_rewards"] = reward
    batch.non_tensor_batch["uid"] = asked.non_tensor_batch["uid"]
    batch = compute_advantage(batch, AdvantageEstimator.GRPO, config=config.algorithm)
    right = torch.tensor(extra["score"]) == 1
    assert (batch.batch["advantages"][:, 0] > 0).tolist() == right.tolist()

    policy = AutoModelForCausalLM.from_pretrained(tiny_policy)
    said = batch.batch["responses"]
    told = {name: batch.batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    logits = policy(**told).logits[:, -said.shape[1] - 1 : -1]
    log_prob = logits.log_softmax(-1).gather(-1, said.unsqueeze(-1)).squeeze(-1)
    loss, _ = get_policy_loss_fn("vanilla")(
        old_log_prob=log_prob.detach(),
        log_prob=log_prob,
        advantages=batch.batch["advantages"],
        response_mask=batch.batch["response_mask"],
        loss_agg_mode="token-mean",
        config=omega_conf_to_dataclass(config.actor_rollout_ref.actor),
    )
    loss.backward()
    assert sum(float(weight.grad.abs().sum()) for weight in policy.parameters() if weight.grad is not None) > 0
    for worker in agents.agent_loop_workers:
        ray.kill(worker)


@pytest.fixture(scope="module")
def v1(
    verl_config: Callable[..., Any], trained_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """Configuration of the v1 trainer with our agent loop over a trained memory, and verl's TransferQueue."""
    import transfer_queue as tq

    memory = shutil.copytree(trained_folder, tmp_path_factory.mktemp("v1") / "memory")
    config = verl_config(
        "+actor_rollout_ref.rollout.agent.agent_loop_manager_class=memstore_rl.trainers.verl.agent_loop.GroupAgentLoopManager",
        "actor_rollout_ref.rollout.agent.num_workers=1",
        f"actor_rollout_ref.rollout.n={GROUP}",
        f"+memstore.memory={memory}",
        "+memstore.device=cpu",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units=1",
    )
    config.transfer_queue.enable = True
    tq.init(config.transfer_queue)
    yield config
    tq.close()


@pytest.fixture(scope="module")
def v1_agents(v1: Any, adding_policy: Any) -> Any:
    """The agent-loop manager that verl's `TaskRunnerV1` would make of that configuration."""
    from verl.utils.import_utils import load_class_from_fqn

    name = v1.actor_rollout_ref.rollout.agent.agent_loop_manager_class
    made = load_class_from_fqn(name, "AgentLoopManager").create(
        config=v1, llm_client=adding_policy, reward_loop_worker_handles=[]
    )
    assert type(made).__name__ == "GroupAgentLoopManager"
    return made


def run_v1(config: Any, agents: Any, file: Path, tiny_policy: Path, size: int, validate: bool = False) -> Any:
    """A batch through the v1 trainer's rollout: TransferQueue, agent loop, and the sampler that `verl config` names."""
    import transfer_queue as tq
    from verl.utils import tensordict_utils as tu

    from memstore_rl.trainers.verl.sampler import SyncSampler

    partition = "val" if validate else "train"
    batch = tu.get_tensordict(prompts(config, file, tiny_policy, size))
    tu.assign_non_tensor_data(batch, "global_steps", 1)
    if validate:
        tu.assign_non_tensor_data(batch, "validate", True)
    tags = [{"is_prompt": True, "status": "pending", "global_steps": 1}] * size
    tq.kv_batch_put(keys=list(batch["uid"]), partition_id=partition, tags=tags)
    agents.generate_sequences(batch)
    sampler = SyncSampler("sync", {}, 8, "drop", {}, poll_interval=0.2)
    found, metrics = sampler.sample(1, partition, size)
    data = tq.kv_batch_get(keys=found.keys, partition_id=partition, select_fields=["rm_scores", "extra_fields", "uid"])
    tq.kv_clear(keys=found.keys, partition_id=partition)
    extras = [fields["reward_extra_info"] for fields in list(data["extra_fields"])]
    return data, extras, metrics


def test_a_batch_of_the_v1_trainer_is_part_ground_truth_part_predicted(
    v1: Any, v1_agents: Any, verl_rows: Path, tiny_policy: Path
) -> None:
    data, extras, metrics = run_v1(v1, v1_agents, verl_rows / "train_memory_50.parquet", tiny_policy, size=8)
    assert len(extras) == 8 * GROUP
    assert all(tuple(extra) == EXTRA_KEYS for extra in extras)
    assert Counter(extra["source"] for extra in extras) == {"ground_truth": 16, "predicted": 16}
    assert {(extra["group_size"], extra["group_short"]) for extra in extras} == {(4.0, 0.0)}
    assert {extra["score"] for extra in extras if extra["source"] == "ground_truth"} == {0.0, 1.0}
    scores = [float(tokens.sum()) for tokens in data["rm_scores"].unbind()]
    assert scores == pytest.approx([extra["score"] for extra in extras])
    assert metrics["memstore/ground_truth_share"] == metrics["memstore/predicted_share"] == 0.5
    assert metrics["memstore/short_share"] == 0.0
    assert 0 < metrics["memstore/probability"] < 1


def test_validation_of_the_v1_trainer_is_ground_truth(
    v1: Any, v1_agents: Any, verl_rows: Path, tiny_policy: Path
) -> None:
    _, extras, metrics = run_v1(v1, v1_agents, verl_rows / "validation.parquet", tiny_policy, size=4, validate=True)
    assert [extra["source"] for extra in extras] == ["ground_truth"] * 4
    assert "memstore/ground_truth_share" not in metrics


def test_the_reward_manager_stops_the_v1_trainer_too(
    v1: Any, reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    import transfer_queue as tq

    from memstore_rl.trainers.verl.sampler import SyncSampler

    uid = str(uuid4())
    tq.kv_batch_put(
        keys=[uid], partition_id="train", tags=[{"is_prompt": True, "status": "running", "global_steps": 1}]
    )
    rows = [rollout(uid, "\\boxed{5}", gold="", session_id=n, global_steps=1) for n in range(GROUP)]
    asked = sent(reward_loop, rows)
    with pytest.raises(ValueError, match="the training stops: 4 of 4 rollouts of a group have no reward"):
        SyncSampler("sync", {}, 8, "drop", {}, poll_interval=0.2).sample(1, "train", 1)
    assert ray.wait(asked, num_returns=1, timeout=0.5)[0] == []  # none came back with a number
    tq.kv_clear(keys=[uid], partition_id="train")


def test_a_scorer_that_is_gone_in_the_middle_of_a_step_stops_the_v1_trainer_with_one_sentence(
    v1: Any, v1_agents: Any, verl_rows: Path, tiny_policy: Path
) -> None:
    file = verl_rows / "train_memory_50.parquet"  # half without gold
    run_v1(v1, v1_agents, file, tiny_policy, size=8)  # by now the workers know the process, and make no other
    ray.kill(v1_agents._memory)
    with pytest.raises(ValueError, match="the training stops: the process that owns the memory is gone"):
        run_v1(v1, v1_agents, file, tiny_policy, size=8)
