"""GRPOTrainer's own sampler and loader keep the batches of the training file, unless it shuffles."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.trainers.verl.batches import BatchPlan
from memstore_rl.trainers.verl.data import DataPlan, write_data

GROUP = 4
PROMPTS = 6
"""Prompts of a generation: 8 rows of a device, 3 accumulation steps, 4 completions of a prompt."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six labelled and 24 unlabelled queries."""
    folder = tmp_path_factory.mktemp("trl-batches") / "data"
    queries = [SourceQuery(f"id-{n}", f"{n} + 1 ?", "sums", f"q{n}", "math", str(n + 1), "train") for n in range(30)]
    write_data(queries, folder, DataPlan(modes=("memory",), batches=BatchPlan(size=PROMPTS)))
    return folder / "train_memory_20.parquet"


def labelled_prompts(file: Path, tiny_policy: Path, tmp_path: Path, *, shuffle: bool) -> list[int]:
    """Return the number of labelled prompts of each generation of an epoch; every prompt has its completions."""
    import datasets
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    def reward(completions: list[Any], **columns: Any) -> list[float]:
        return [0.0] * len(completions)

    trainer = GRPOTrainer(
        model=str(tiny_policy),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=8,
            gradient_accumulation_steps=3,
            num_generations=GROUP,
            shuffle_dataset=shuffle,
            report_to="none",
            seed=0,
        ),
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path)),
        processing_class=AutoTokenizer.from_pretrained(tiny_policy, padding_side="left"),
    )
    counts = []
    for rows in list(trainer.get_train_dataloader())[::3]:  # the sampler repeats a generation for each of its steps
        groups = Counter(row["extra_info"]["query_id"] for row in rows)
        assert sum(groups.values()) == PROMPTS * GROUP
        assert all(count % GROUP == 0 for count in groups.values())
        counts.append(sum(row["extra_info"]["labelled"] for row in rows) // GROUP)
    return counts


def test_half_of_each_generation_is_labelled(file: Path, tiny_policy: Path, tmp_path: Path) -> None:
    assert labelled_prompts(file, tiny_policy, tmp_path, shuffle=False) == [3] * 8


def test_shuffling_keeps_the_share_on_average_only(file: Path, tiny_policy: Path, tmp_path: Path) -> None:
    counts = labelled_prompts(file, tiny_policy, tmp_path, shuffle=True)
    assert sum(counts) == 3 * 8
    assert len(set(counts)) > 1
