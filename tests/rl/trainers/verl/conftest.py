"""Fixtures for tests with verl: data, configuration, and Ray."""

from __future__ import annotations

import os
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


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A local Ray cluster with as many logical CPUs as verl's actors request."""
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
        yield
    finally:
        ray.shutdown()
