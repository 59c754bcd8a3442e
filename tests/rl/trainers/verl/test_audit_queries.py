"""Audit queries: marked in a memory, seen by no training and in no batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from memstore.errors import InputError
from memstore.labels.answers import AnswerVerdict
from memstore.labels.audit import mark_audit
from memstore.memory import Memory
from memstore.records.ids import query_id
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import to_hetero
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.splits import Split, label_budget
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import audit_queries, visible
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.models.stored_model import seen_by
from memstore_gnn.scoring.score import predict_memory
from memstore_gnn.verbs.train import train_snapshot
from memstore_rl.benchmarks.queries import queries_of_files, queries_of_memory
from memstore_rl.trainers.verl.data import DataPlan, audit_note, write_data

QUERIES, AUDIT = 30, range(5, 11)


def text(number: int) -> str:
    return f"How much is {number} and {number + 7}?"


def rows(cheat: bool = False) -> list[dict[str, Any]]:
    """Labelled rollouts of sums. With `cheat`, labels and golds of the audit queries are swapped for others."""
    made = []
    for number in range(QUERIES):
        for sample in range(4):
            right = (number + sample) % 3 > 0
            answer = 2 * number + 7 + (0 if right else 1 + sample % 2)
            other = cheat and number in AUDIT
            made.append(
                {
                    "query": text(number),
                    "dataset": "sums",
                    "domain": "math",
                    "gold": str(900_001 + number if other else 2 * number + 7),
                    "thinking": f"{number} plus {number + 7} is {answer}{'' if right else ', I guess'}.",
                    "answer": str(answer),
                    "sample_index": sample,
                    "reward": float(right != other),
                }
            )
    return made


def made_memory(folder: Path, *, cheat: bool = False) -> Memory:
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(cheat)), encoding="utf-8")
    memory = Memory.open(folder / "memory", create=True, embedder=HashEmbedder())
    memory.ingest([folder / "rows.jsonl"])
    return memory


AUDIT_IDS = sorted(query_id(text(number)) for number in AUDIT)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with made_memory(tmp_path / "honest") as opened:
        mark_audit(opened.stores, AUDIT_IDS)
        yield opened


def test_a_mark_is_stored_once_and_restored(memory: Memory, tmp_path: Path) -> None:
    before = memory.stats()
    assert mark_audit(memory.stores, AUDIT_IDS) == 0
    assert mark_audit(memory.stores, [*AUDIT_IDS[:2], query_id(text(0))]) == 1
    snapshot = memory.snapshot()
    marked = {*AUDIT_IDS, query_id(text(0))}
    assert set(snapshot.queries["id"].to_numpy()[audit_queries(snapshot)]) == marked
    assert memory.stats().datasets == before.datasets
    assert memory.verify().ok
    save_snapshot(snapshot, tmp_path / "saved")
    with Memory.open(tmp_path / "copy", create=True, embedder=HashEmbedder()) as copy:
        copy.restore(load_snapshot(tmp_path / "saved"))
        assert audit_queries(copy.snapshot()).sum() == len(marked)
        (tmp_path / "more.jsonl").write_text(json.dumps(rows()[-1] | {"answer": "5", "reward": None}))
        copy.ingest([tmp_path / "more.jsonl"])
        assert audit_queries(copy.snapshot()).sum() == len(marked)


def test_an_unknown_query_marks_nothing(memory: Memory) -> None:
    with pytest.raises(InputError, match="the Query q-none is not in the memory"):
        mark_audit(memory.stores, [query_id(text(1)), "q-none"])
    assert audit_queries(memory.snapshot()).sum() == len(AUDIT)


def test_rows_of_an_ingest_can_mark_audit_queries(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(rows()[0] | {"split": "audit"}))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        snapshot = memory.snapshot()
        assert audit_queries(snapshot).tolist() == [True]
        assert not visible(snapshot).queries.any()


@pytest.mark.parametrize("budget", [None, 0.6])
def test_a_planted_cheat_changes_neither_training_nor_scores(
    memory: Memory, tmp_path: Path, budget: float | None
) -> None:
    """Labels and golds of audit queries that contradict everything leave each probability as it is."""
    quick = TrainSettings(members=2, epochs=20)
    found, learnt = [], []
    with made_memory(tmp_path / "cheat", cheat=True) as cheat:
        mark_audit(cheat.stores, AUDIT_IDS)
        for opened in (memory, cheat):
            snapshot = opened.snapshot()
            result = train_snapshot(snapshot, budget=budget, settings=quick, device="cpu")
            seen = seen_by(result.model, snapshot)
            every = np.ones(len(seen.reward), np.bool_)
            found.append(predict_memory(result.model, snapshot, seen.reward, every))
            verdicts = verdicts_of(snapshot, seen)
            told = {answer: verdict.value for answer, verdict in verdicts.answers.items()}
            learnt.append((seen.reward.tobytes(), result.splits.labelled.tolist(), told, verdicts.golds))
            ids = snapshot.queries["id"].to_numpy()
            assert not set(ids[result.splits.labelled]) & set(AUDIT_IDS)
            assert set(AUDIT_IDS) <= set(ids[result.splits.report]) or budget is not None
    assert learnt[0] == learnt[1]
    np.testing.assert_array_equal(found[0], found[1])


def test_the_budget_of_a_model_draws_some_audit_queries(memory: Memory) -> None:
    """Otherwise the test above would hold without any mark."""
    snapshot = memory.snapshot()
    drawn = snapshot.queries["id"].to_numpy()[label_budget(snapshot, 0.6, 0).labelled]
    assert set(drawn) & set(AUDIT_IDS)


@pytest.mark.parametrize("given", [False, True])
def test_an_export_to_pyg_has_no_label_of_an_audit_query(memory: Memory, given: bool) -> None:
    """Neither by default nor if the caller passes all rewards and a split with these queries."""
    snapshot = memory.snapshot()
    audit = audit_queries(snapshot)
    splits = Split(~audit, np.zeros_like(audit), audit) if given else None
    data = to_hetero(snapshot, reward=rewards_of(snapshot) if given else None, splits=splits)
    of_audit = torch.from_numpy(audit[query_of_thinkings(snapshot)])
    assert data["thinking"].y.isnan()[of_audit].all()
    assert torch.equal(data["thinking"].y_mask, ~of_audit)
    for name in ("train_mask", "select_mask", "report_mask", "val_mask", "test_mask"):
        assert not data["query"][name][torch.from_numpy(audit)].any()
        assert not data["thinking"][name][of_audit].any()
    assert data["query"].train_mask.any()


def files_of(memory: Memory, folder: Path) -> dict[str, list[dict[str, Any]]]:
    write_data(queries_of_memory(memory.graph), folder, DataPlan(budgets=(0.2, 0.6), validation=0.1, test=0.1))
    return {path.stem: pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))}


def test_no_batch_has_an_audit_query(memory: Memory, tmp_path: Path) -> None:
    files = files_of(memory, tmp_path / "data")
    measured = files.pop("audit")
    assert sorted(row["extra_info"]["query_id"] for row in measured) == AUDIT_IDS
    assert {row["extra_info"]["split"] for row in measured} == {"audit"}
    assert all(row["reward_model"]["ground_truth"] for row in measured)
    assert {"train_oracle", "train_budget_20", "train_memory_60", "validation", "test"} <= set(files)
    for found in files.values():
        assert not {row["extra_info"]["query_id"] for row in found} & set(AUDIT_IDS)


def test_labels_of_answers_are_the_truth_of_audit_queries_without_gold(tmp_path: Path) -> None:
    made = [row | ({"gold": None, "reward": None} if number // 4 in AUDIT else {}) for number, row in enumerate(rows())]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        mark_audit(memory.stores, AUDIT_IDS)
        judged = AUDIT_IDS[:4]
        answers = {query_id(text(number)): str(2 * number + 7) for number in AUDIT}
        memory.label_answers([AnswerVerdict(name, answers[name], 1.0) for name in judged[:3]])
        memory.label_answers([AnswerVerdict(judged[3], None, 0.0)])
        queries = queries_of_memory(memory.graph)
        files = files_of(memory, tmp_path / "data")
    found = {row["extra_info"]["query_id"]: row["reward_model"]["ground_truth"] for row in files["audit"]}
    assert found == {name: answers[name] for name in judged[:3]}
    assert (audit_note(queries) or "").startswith("3 audit queries are not in audit.parquet for lack of ground truth")
    assert audit_note(query for query in queries if query.gold) is None


def test_training_files_do_not_depend_on_golds_of_audit_queries(memory: Memory, tmp_path: Path) -> None:
    with made_memory(tmp_path / "cheat", cheat=True) as cheat:
        mark_audit(cheat.stores, AUDIT_IDS)
        honest, cheated = files_of(memory, tmp_path / "one"), files_of(cheat, tmp_path / "two")
    assert honest.pop("audit") != cheated.pop("audit")
    assert honest == cheated


def test_a_file_that_names_audit_queries_keeps_them_out_of_batches(tmp_path: Path) -> None:
    queries = [{"query": text(n), "gold": "1", "dataset": "sums", "domain": "math"} for n in range(QUERIES)]
    queue = [{"query": text(n), "dataset": "sums", "domain": "math", "split": "audit"} for n in AUDIT]
    for name, made in (("queries", queries), ("queue", queue)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    write_data(queries_of_files([tmp_path / "queries.jsonl", tmp_path / "queue.jsonl"]), tmp_path / "data", DataPlan())
    found = {path.stem: pq.read_table(path).to_pylist() for path in (tmp_path / "data").glob("*.parquet")}
    assert sorted(row["extra_info"]["query_id"] for row in found.pop("audit")) == AUDIT_IDS
    assert not {row["extra_info"]["query_id"] for rows in found.values() for row in rows} & set(AUDIT_IDS)
