"""verl's data set reads the files of `memstore verl data`, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memstore_rl.benchmarks.queries import SourceQuery
from memstore_rl.rewards.reward import RewardQuery
from memstore_rl.trainers.verl.data import DataPlan, write_data
from memstore_rl.trainers.verl.rows import is_training, query_of

EXPECTED = {
    "train_oracle": (14, 14),
    "train_budget_20": (3, 3),
    "train_memory_20": (22, 11),
    "train_budget_50": (7, 7),
    "train_memory_50": (14, 7),
    "validation": (2, 2),
    "test": (4, 4),
}
"""Number of rows and of labelled rows per file."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "verl"
    queries = [
        SourceQuery(f"id-{n}", f"what is {n} + 2 ?", "additions", f"q{n}", "math", str(n + 2), None) for n in range(20)
    ]
    write_data(queries, folder, DataPlan(budgets=(0.2, 0.5), system="be short"))
    return folder


@pytest.mark.parametrize("name", EXPECTED)
def test_verl_data_set_reads_the_file(
    name: str, data: Path, tiny_policy: Path, verl_config: Callable[..., Any]
) -> None:
    from transformers import AutoTokenizer
    from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

    tokenizer = AutoTokenizer.from_pretrained(tiny_policy)
    dataset = RLHFDataset(str(data / f"{name}.parquet"), tokenizer=tokenizer, config=verl_config().data, processor=None)
    batch = collate_fn([dataset[row] for row in range(len(dataset))])
    rows = [{key: batch[key][row] for key in batch} for row in range(len(dataset))]
    labelled = 0
    for row in rows:
        number = row["index"]
        assert [turn["content"] for turn in row["raw_prompt"]] == ["be short", f"what is {number} + 2 ?"]
        query = query_of(row["raw_prompt"], row["data_source"], row["reward_model"], row["extra_info"])
        gold = str(number + 2) if query.labelled else None
        expected = RewardQuery(f"what is {number} + 2 ?", "additions", f"q{number}", "math", gold, query.labelled)
        assert query == expected
        assert row["extra_info"]["query_id"] == f"id-{number}"
        # As verl's own examples write them, for reward functions that read them; the answer only of labelled rows.
        assert row["extra_info"]["question"] == f"what is {number} + 2 ?"
        assert row["extra_info"]["answer"] == (gold or "") == row["reward_model"]["ground_truth"]
        assert row["extra_info"]["labelled"] == query.labelled
        assert is_training(row["extra_info"]) == name.startswith("train")
        labelled += query.labelled
    assert (len(rows), labelled) == EXPECTED[name]
