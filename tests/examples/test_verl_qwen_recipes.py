"""The recipes compose with verl's configuration, and make verl call memstore."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from memstore.memory import Memory
from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.trainers.verl.data import DataPlan, write_data

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "verl_qwen"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe") / "data"
    queries = [
        SourceQuery(f"id-{n}", f"what is {n} + 1 ?", "sums", f"q{n}", "math", str(n + 1), split)
        for n, split in enumerate(["train"] * 10 + ["validation"] * 2)
    ]
    write_data(queries, folder, DataPlan())
    return folder


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("recipe-memory") / "memory"
    Memory.open(folder, create=True).close()
    return str(folder)


def recipe(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script with `echo` in place of verl, so that it prints verl's command line."""
    environment = {**os.environ, "VERL": "echo", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [str(RECIPES / "train.sh"), *words]
    return subprocess.run(command, env={**environment, **variables}, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize(("size", "model"), [("1.5b", "Qwen2.5-1.5B-Instruct"), ("3b", "Qwen2.5-3B-Instruct")])
def test_recipe_passes_the_check_and_starts_verl(size: str, model: str, data: Path, memory: str) -> None:
    ran = recipe(size, memory, str(data), "trainer.total_epochs=1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    checked, command = ran.stdout.strip().rsplit("\n", 1)
    assert "NOT OK" not in checked
    assert "by the agent loop, inside its workers" in checked
    assert "16 rows, 8 with ground truth" in checked
    assert f"actor_rollout_ref.model.path=Qwen/{model}" in command
    assert command.endswith("trainer.total_epochs=1")


def test_mode_selects_the_training_data(data: Path) -> None:
    ran = recipe("1.5b", "http://127.0.0.1:8731", str(data), MODE="oracle")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"data.train_files={data}/train_oracle.parquet" in ran.stdout
    assert "+memstore.endpoint=http://127.0.0.1:8731" in ran.stdout


def test_recipe_that_fails_the_check_is_not_started(data: Path, memory: str) -> None:
    ran = recipe("1.5b", memory, str(data), "reward.reward_model.enable=True")
    assert ran.returncode == 1
    assert "NOT OK  rewards" in ran.stdout
    assert "total_epochs" not in ran.stdout
