"""The hooks inside verl 0.9.1: its reward loop, agent loops, data set, GRPO advantage and loss, on one CPU.

All tests share one Ray cluster, because starting it and importing verl in the workers takes most of the time.
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
    """verl's reward loop with two workers and our manager, in mode oracle."""
    config = verl_config(*MANAGER, "+memstore.mode=oracle")
    loop = RewardLoopManager(config)
    yield loop
    for worker in loop.reward_loop_workers:
        ray.kill(worker)


def object_array(value: object) -> Any:
    """Return an object array with one element."""
    array = np.empty(1, dtype=object)
    array[0] = value
    return array


@pytest.fixture(scope="module")
def rollout(tiny_policy: Path) -> Callable[..., DataProto]:
    """Return a factory of rollouts as verl's agent loop sends them."""
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
        return DataProto(batch=tensors, non_tensor_batch={name: object_array(value) for name, value in row.items()})

    return made


def send(loop: RewardLoopManager, rollouts: list[DataProto]) -> list[Any]:
    """Send rollouts as verl's agent loop does, each to a random worker."""
    return [random.choice(loop.reward_loop_worker_handles).compute_score.remote(item) for item in rollouts]


def barrier_of(loop: RewardLoopManager, deadline: float) -> Any:
    """Return the barrier of these workers, waiting until the first worker that is called has created it."""
    name = actor_name("group_barrier", hook_settings(loop.config))
    while True:
        try:
            return ray.get_actor(name)
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def test_rollouts_on_different_workers_form_one_group(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    answers = ["the answer is \\boxed{5}", "the answer is \\boxed{6}", "\\boxed{5}", "I do not know"]
    scored = ray.get(send(reward_loop, [rollout("u", answer) for answer in answers]))
    assert [reply["reward_score"] for reply in scored] == [1.0, 0.0, 1.0, 0.0]
    for reply in scored:
        extra = reply["reward_extra_info"]
        assert tuple(extra) == EXTRA_KEYS
        assert (extra["source"], extra["from_ground_truth"], extra["group_size"]) == ("ground_truth", 1.0, 4.0)
        assert extra["group_short"] == 0.0


def test_3000_rollouts_in_flight_on_two_workers_form_complete_groups(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    groups = [f"many-{number}" for number in range(750)]
    sent = [rollout(group, "\\boxed{5}") for group in groups]
    first = [reference for _ in range(GROUP - 1) for reference in send(reward_loop, sent)]
    deadline = time.monotonic() + 200
    barrier = barrier_of(reward_loop, deadline)
    while (waiting := ray.get(barrier.waiting.remote())) < len(first) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert waiting == 2250  # on two workers with a default limit of 1,000 calls each
    scored = ray.get([*first, *send(reward_loop, sent)], timeout=200)
    sizes = Counter((r["reward_extra_info"]["group_size"], r["reward_extra_info"]["group_short"]) for r in scored)
    assert sizes == {(4.0, 0.0): 3000}
    assert {reply["reward_score"] for reply in scored} == {1.0}


def test_validation_is_scored_by_ground_truth(
    reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    scored = ray.get(send(reward_loop, [rollout("v", "\\boxed{5}", split="validation") for _ in range(7)]), timeout=200)
    assert [reply["reward_score"] for reply in scored] == [1.0] * 7
    assert {reply["reward_extra_info"]["source"] for reply in scored} == {"ground_truth"}


def test_row_without_gold_ends_the_step(reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]) -> None:
    sent = send(reward_loop, [rollout("blank", "\\boxed{5}", gold="") for _ in range(GROUP)])
    with pytest.raises(
        ray.exceptions.RayTaskError, match=r"Unscored: 4 of 4 rollouts of a group have no reward"
    ) as error:
        ray.get(sent)
    assert "has no gold answer" in str(error.value)


def test_row_without_split_is_rejected(reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]) -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match=r"a row has no extra_info\.split"):
        ray.get(send(reward_loop, [rollout("nosplit", "\\boxed{5}", split="")]))


@pytest.fixture(scope="module")
def adding_policy(tiny_policy: Path) -> Any:
    """Replaces verl's language model server: every other rollout of a prompt is right."""

    class AddingPolicy:
        def __init__(self) -> None:
            self.tokenizer: Any = None
            self.sent: Counter[str] = Counter()

        async def generate(self, request_id: str, *, prompt_ids: list[int], **options: Any) -> Any:
            from transformers import AutoTokenizer
            from verl.workers.rollout.replica import TokenOutput

            tokenizer = self.tokenizer = self.tokenizer or AutoTokenizer.from_pretrained(tiny_policy)
            first, second = re.findall(r"\d+", tokenizer.decode(prompt_ids))
            self.sent[first] += 1
            response = f"\\boxed{{{int(first) + int(second) + self.sent[first] % 2}}}"
            return TokenOutput(token_ids=[*tokenizer.encode(response), tokenizer.eos_token_id], stop_reason="completed")

    return AddingPolicy()


def prompts(config: Any, file: Path, tiny_policy: Path, size: int) -> dict[str, Any]:
    """Return the first batch of verl's data set, with a uid per prompt as from its trainer."""
    from torch.utils.data import DataLoader
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    dataset = RLHFDataset(str(file), tokenizer=tokenizer, config=config.data, processor=None)
    batch: dict[str, Any] = next(iter(DataLoader(dataset, batch_size=size, collate_fn=collate_fn)))
    batch["uid"] = np.array([str(uuid4()) for _ in range(size)], dtype=object)
    return batch


def test_grpo_step_with_groups_across_agent_workers(
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
    sent = DataProto.from_single_dict(rows).repeat(GROUP, interleave=True)
    sent.meta_info["global_steps"] = 1
    batch = agents.generate_sequences(sent)

    reward, extra = extract_reward(batch)
    assert set(extra) == set(EXTRA_KEYS)
    assert extra["group_size"].tolist() == [4.0] * 12
    assert reward.sum(-1).tolist() == extra["score"].tolist()
    assert reward.sum(-1).view(3, GROUP).mean(1).tolist() == [0.5] * 3

    batch.batch["token_level_scores"] = batch.batch["token_level_rewards"] = reward
    batch.non_tensor_batch["uid"] = sent.non_tensor_batch["uid"]
    batch = compute_advantage(batch, AdvantageEstimator.GRPO, config=config.algorithm)
    right = torch.tensor(extra["score"]) == 1
    assert (batch.batch["advantages"][:, 0] > 0).tolist() == right.tolist()

    policy = AutoModelForCausalLM.from_pretrained(tiny_policy)
    response = batch.batch["responses"]
    inputs = {name: batch.batch[name] for name in ("input_ids", "attention_mask", "position_ids")}
    logits = policy(**inputs).logits[:, -response.shape[1] - 1 : -1]
    log_prob = logits.log_softmax(-1).gather(-1, response.unsqueeze(-1)).squeeze(-1)
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
    """The agent-loop manager that verl's `TaskRunnerV1` creates from that configuration."""
    from verl.utils.import_utils import load_class_from_fqn

    name = v1.actor_rollout_ref.rollout.agent.agent_loop_manager_class
    made = load_class_from_fqn(name, "AgentLoopManager").create(
        config=v1, llm_client=adding_policy, reward_loop_worker_handles=[]
    )
    assert type(made).__name__ == "GroupAgentLoopManager"
    return made


def run_v1(config: Any, agents: Any, file: Path, tiny_policy: Path, size: int, validate: bool = False) -> Any:
    """Run a batch through the v1 trainer's rollout: TransferQueue, agent loop, and the sampler of `verl config`."""
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


def test_v1_batch_mixes_ground_truth_and_predictions(
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


def test_v1_validation_is_ground_truth(v1: Any, v1_agents: Any, verl_rows: Path, tiny_policy: Path) -> None:
    _, extras, metrics = run_v1(v1, v1_agents, verl_rows / "validation.parquet", tiny_policy, size=4, validate=True)
    assert [extra["source"] for extra in extras] == ["ground_truth"] * 4
    assert "memstore/ground_truth_share" not in metrics


def test_reward_manager_stops_the_v1_trainer(
    v1: Any, reward_loop: RewardLoopManager, rollout: Callable[..., DataProto]
) -> None:
    import transfer_queue as tq

    from memstore_rl.trainers.verl.sampler import SyncSampler

    uid = str(uuid4())
    tq.kv_batch_put(
        keys=[uid], partition_id="train", tags=[{"is_prompt": True, "status": "running", "global_steps": 1}]
    )
    rows = [rollout(uid, "\\boxed{5}", gold="", session_id=n, global_steps=1) for n in range(GROUP)]
    sent = send(reward_loop, rows)
    with pytest.raises(ValueError, match="the training stops: 4 of 4 rollouts of a group have no reward"):
        SyncSampler("sync", {}, 8, "drop", {}, poll_interval=0.2).sample(1, "train", 1)
    assert ray.wait(sent, num_returns=1, timeout=0.5)[0] == []  # no rollout returned
    tq.kv_clear(keys=[uid], partition_id="train")


def test_lost_scorer_stops_the_v1_trainer(v1: Any, v1_agents: Any, verl_rows: Path, tiny_policy: Path) -> None:
    file = verl_rows / "train_memory_50.parquet"  # half of it without gold
    run_v1(v1, v1_agents, file, tiny_policy, size=8)  # the workers hold the actor and do not create another one
    ray.kill(v1_agents._memory)
    with pytest.raises(ValueError, match="the training stops: the process that owns the memory has ended"):
        run_v1(v1, v1_agents, file, tiny_policy, size=8)
