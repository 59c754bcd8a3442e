"""Fixtures for tests with verl: data, configuration, and Ray."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.trainers.verl.data import DataPlan, write_data

TRAINING, HELD_OUT = 8, 4
"""Number of rows in the data of the fixtures."""


@pytest.fixture(scope="session")
def verl_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as written by `memstore verl data`: for the modes oracle and memory, and for validation."""
    folder = tmp_path_factory.mktemp("verl-data")
    queries = [
        SourceQuery(f"id-{n}", f"what is {n} + {n + 1} ?", "additions", f"q{n}", "math", str(2 * n + 1), split)
        for n, split in enumerate(["train"] * TRAINING + ["validation"] * HELD_OUT)
    ]
    write_data(queries, folder / "data", DataPlan(budgets=(0.5,), modes=("oracle", "memory")))
    return folder / "data"


@pytest.fixture(scope="session")
def verl_config(tiny_policy: Path) -> Callable[..., Any]:
    """Return a function that composes verl's `main_ppo` configuration with overrides."""
    import verl
    from hydra import compose, initialize_config_dir

    def composed(*overrides: str) -> Any:
        with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
            return compose(
                "ppo_trainer",
                overrides=[
                    f"actor_rollout_ref.model.path={tiny_policy}",
                    "actor_rollout_ref.rollout.name=vllm",
                    "actor_rollout_ref.rollout.agent.num_workers=2",
                    "actor_rollout_ref.actor.use_dynamic_bsz=True",
                    "data.max_prompt_length=64",
                    "data.max_response_length=8",
                    "reward.num_workers=2",
                    *overrides,
                ],
            )

    return composed


@pytest.fixture
def score_group_in_verl(ray_cluster: None, tiny_policy: Path) -> Callable[..., list[dict[str, Any]]]:
    """Return a function that sends the rollouts of a group to verl's reward loop, and returns their extra information.

    Each rollout goes to a random worker, as verl's agent loop sends it.
    """
    import numpy as np
    import ray
    import torch
    from tensordict import TensorDict
    from transformers import AutoTokenizer
    from verl import DataProto

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)

    def rollout(uid: str, answer: int, step: int) -> DataProto:
        tokens = torch.tensor([[*tokenizer.encode(f"\\boxed{{{answer}}}"), tokenizer.eos_token_id]])
        ones, mask = torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4 + tokens.shape[1], dtype=torch.long)
        row = {
            "uid": uid,
            "global_steps": step,
            "data_source": "additions",
            "raw_prompt": [{"role": "user", "content": f"what is 2 + 3 ({uid[0]}) ?"}],
            "reward_model": {"style": "rule", "ground_truth": "5"},
            "extra_info": {"split": "train", "index": 0, "domain": "math"},
        }
        arrays = {}
        for name, value in row.items():
            arrays[name] = np.empty(1, dtype=object)
            arrays[name][0] = value
        tensors = TensorDict({"prompts": ones, "responses": tokens, "attention_mask": mask}, batch_size=1)
        return DataProto(batch=tensors, non_tensor_batch=arrays)

    def send(reward_loop: Any, uid: str, answers: list[int], step: int) -> list[dict[str, Any]]:
        workers = reward_loop.reward_loop_worker_handles
        sent = [random.choice(workers).compute_score.remote(rollout(uid, answer, step)) for answer in answers]
        return [answered["reward_extra_info"] for answered in ray.get(sent)]

    return send


@pytest.fixture(scope="module")
def ray_cluster(shared_servers: Any) -> None:
    """A local Ray cluster with as many logical CPUs as verl's actors request, shared by the modules of the group."""
    shared_servers.get("ray", running_ray)


@contextlib.contextmanager
def running_ray() -> Iterator[bool]:
    """Ray on this machine, for as long as the context lasts."""
    import ray

    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=16,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        object_store_memory=200 * 2**20,
        runtime_env={"env_vars": {**quiet, "TRANSFER_QUEUE_ENABLE": "1"}},
    )
    try:
        yield True
    finally:
        ray.shutdown()
