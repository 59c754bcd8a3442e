"""Fixtures: a plan in a folder of its own, and steps that are shell commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from memstore_rl.reproduction.run import Reproduction, do_steps
from memstore_rl.reproduction.state import open_folder
from memstore_rl.reproduction.step import Step

PLAN = """
[queries]
in_domain = ["sums.jsonl"]

[[policies]]
name = "stub"
model = "stub"
endpoint = "http://127.0.0.1:9/v1"

[rollouts]
samples = 2

[training]
runs = ["oracle", "budget-20", "memory-20"]
command = "python train.py {train} {checkpoint}"

[checkpoints]
endpoint = "http://127.0.0.1:9/v1"
"""

WritePlan = Callable[..., Path]


def step(name: str, command: str, **values: object) -> Step:
    """A step of a shell command, which is also its identity."""
    return Step(name, command, command, **values)  # type: ignore[arg-type]


def do(folder: Path, *steps: Step) -> Reproduction:
    """Do steps in a folder."""
    with open_folder(folder) as place:
        result = Reproduction(folder, len(steps))
        do_steps(steps, place, result, lambda line: None)
        return result


@pytest.fixture
def write_plan(tmp_path: Path) -> WritePlan:
    """Write a plan and its file of queries: ten for training and four for testing."""

    def write(text: str = PLAN, *replaced: tuple[str, str]) -> Path:
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        rows = [
            {
                "query": f"What is {10 + n} plus {3 + 2 * n} ?",
                "gold": str(13 + 3 * n),
                "domain": "math",
                "dataset": "sums",
            }
            | {"query_id": f"sum-{n}", "split": "train" if n < 10 else "test"}
            for n in range(14)
        ]
        (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "plan.toml").write_text(text)
        return tmp_path / "plan.toml"

    return write
