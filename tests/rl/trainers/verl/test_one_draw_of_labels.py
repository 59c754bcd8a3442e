"""`train`, `evaluate` and `verl data` label the same queries of a memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.splits import label_budget
from memstore_rl.benchmarks.queries import queries_of_memory
from memstore_rl.trainers.verl.data import DataPlan, write_data

SIZES = {"large": 60, "small": 9, "tiny": 1}


def _rows(kind: str) -> list[dict[str, Any]]:
    """Rows of three datasets; of some kinds, not every query has a label."""
    rows = []
    for dataset, size in SIZES.items():
        for number in range(size):
            row = {"query": f"{dataset} {number}?", "dataset": dataset, "domain": "math", "answer": str(number)}
            row |= {"gold": str(number), "reward": 1.0}
            if kind == "half without reward" and number % 2:
                del row["reward"]
            if kind == "half without gold and reward" and number % 2:
                del row["reward"], row["gold"]
            rows.append(row)
    return rows


@pytest.mark.parametrize("kind", ["all labelled", "half without reward", "half without gold and reward"])
@pytest.mark.parametrize(("seed", "split_seed"), [(0, 0), (3, 0), (0, 5)])
def test_the_model_sees_the_labels_of_the_files(tmp_path: Path, kind: str, seed: int, split_seed: int) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _rows(kind)))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        queries, snapshot = queries_of_memory(memory.graph), memory.snapshot()
    plan = DataPlan(budgets=(0.1, 0.2, 0.5), seed=seed, split_seed=split_seed, validation=0.1, test=0.2)
    write_data(queries, tmp_path / "data", plan)
    ids = snapshot.queries["id"].to_numpy()
    for budget in plan.budgets:
        seen = set(ids[label_budget(snapshot, budget, seed).labelled])  # as train and evaluate draw them
        for mode in ("budget", "memory"):
            table = pq.read_table(tmp_path / "data" / f"train_{mode}_{budget * 100:g}.parquet")
            rows = table["extra_info"].to_pylist()
            assert {row["query_id"] for row in rows if row["labelled"]} == seen
            withheld = {query.id for query in queries if query.gold or query.has_label} - seen
            assert {row["query_id"] for row in rows if not row["remember"]} == withheld & {
                row["query_id"] for row in rows
            }
    files = [tmp_path / "data" / f"{name}.parquet" for name in ("validation", "test")]
    held_out = [pq.read_table(file) for file in files if file.is_file()]  # a split without queries has no file
    others = {row["query_id"] for table in held_out for row in table["extra_info"].to_pylist()}
    largest = set(ids[label_budget(snapshot, 0.5, seed).labelled])
    assert others
    assert not others & largest


def test_a_budget_larger_than_the_training_split_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in _rows("all labelled")))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        queries = queries_of_memory(memory.graph)
    with pytest.raises(InputError, match="larger than the training split of the dataset 'large'; choose a smaller"):
        write_data(queries, tmp_path / "data", DataPlan(budgets=(0.9,)))
