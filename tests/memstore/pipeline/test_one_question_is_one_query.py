"""Rows that ask one question make one query, in any order; its names accumulate."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from memstore.memory import Memory
from memstore.pipeline.ingest import IngestSummary
from memstore.snapshots.aliases import first_datasets, first_keys, in_dataset, with_keys
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.conformance.memory import SETTINGS
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_schema.columns import EdgeType, NodeLabel

Q = "How many legs have 3 cats?"
CHAT = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n"
ROW = {"query": Q, "dataset": "cats", "query_id": "c1", "thinking": "4 * 3", "answer": "12", "domain": "math"}
NAMED = (
    {**ROW, "query": Q},
    {**ROW, "query": f"{Q} ", "query_id": "c2", "sample_index": 1},
    {**ROW, "query": CHAT, "dataset": "pets", "query_id": None, "sample_index": 2},
)
"""One question with a trailing blank and another key, and in a chat template under another dataset."""


def ingested(memory: Memory, file: Path, *rows: Mapping[str, Any]) -> IngestSummary:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return memory.ingest([file])


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    with Memory.open(tmp_path / "m", create=True, embedder=HashEmbedder(), settings=SETTINGS) as opened:
        yield opened


def names_of(memory: Memory) -> list[tuple[Any, ...]]:
    return sorted(memory.cypher("MATCH (q:Query)-[i:IN]->(d:Dataset) RETURN d.name, i.key, i.split").rows, key=repr)


def test_three_rows_of_one_question_make_one_query_with_three_names(memory: Memory, tmp_path: Path) -> None:
    summary = ingested(memory, tmp_path / "rows.jsonl", *NAMED)
    assert (summary.queries_added, summary.added, summary.rejected) == (1, 3, 0)
    assert memory.graph.nodes(NodeLabel.QUERY, ["text"])["text"].to_pylist() == [Q]
    assert names_of(memory) == [("cats", "c1", None), ("cats", "c2", None), ("pets", None, None)]
    assert len(memory.graph.nodes(NodeLabel.ANSWER, ["id"])) == 1
    found = {row.dataset: (row.queries, row.thinkings) for row in memory.stats().datasets}
    assert found == {"cats": (1, 2), "pets": (1, 1)}
    assert memory.verify().ok


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    digests = []
    for number, rows in enumerate(itertools.permutations((*NAMED, {**ROW, "domain": None, "sample_index": 4}))):
        # A stored text is the first one: the trailing blank stays out of this comparison.
        kept = [{**row, "query": str(row["query"]).rstrip()} for row in rows]
        with Memory.open(tmp_path / f"{number}", create=True, embedder=HashEmbedder(), settings=SETTINGS) as memory:
            ingested(memory, tmp_path / "rows.jsonl", *kept)
            digests.append(memory_digest(memory))
        if number == 5:
            break
    assert all(digest == digests[0] for digest in digests)


def test_a_row_that_brings_only_a_name_is_unchanged_and_adds_it(memory: Memory, tmp_path: Path) -> None:
    ingested(memory, tmp_path / "a.jsonl", ROW)
    summary = ingested(memory, tmp_path / "b.jsonl", {**ROW, "dataset": "pets", "split": "train"})
    assert (summary.added, summary.unchanged, summary.queries_added) == (0, 1, 0)
    assert names_of(memory) == [("cats", "c1", None), ("pets", "c1", "train")]
    assert memory.graph.nodes(NodeLabel.THINKING, ["dataset"])["dataset"].to_pylist() == ["cats"]
    ingested(memory, tmp_path / "b.jsonl", {**ROW, "dataset": "pets", "split": "train"})
    assert len(names_of(memory)) == 2


def test_a_file_that_lists_a_rollout_under_two_names_has_it_once(memory: Memory, tmp_path: Path) -> None:
    rows = [ROW, ROW, {**ROW, "dataset": "pets"}]
    summary = ingested(memory, tmp_path / "rows.jsonl", *rows)
    assert (summary.added, summary.unchanged) == (2, 1)  # two equal rows of one name are two rollouts


def test_two_texts_under_one_key_are_two_queries(memory: Memory, tmp_path: Path) -> None:
    both = [ROW, {**ROW, "query": "How many legs have 3 dogs?"}]
    summary = ingested(memory, tmp_path / "rows.jsonl", *both)
    assert len(memory.graph.nodes(NodeLabel.QUERY, ["id"])) == 2
    assert len(memory.graph.nodes(NodeLabel.DATASET, ["id"])) == 1
    assert "the key c1 of dataset cats names 2 different texts; " in (summary.shared_keys or "")
    assert ingested(memory, tmp_path / "rows.jsonl", *both).shared_keys is None  # they bring no new name
    other = ({**row, "dataset": "pets", "split": split} for row in both for split in ("train", "test"))
    assert "of dataset pets names 2 different" in (ingested(memory, tmp_path / "more.jsonl", *other).shared_keys or "")


BARE: dict[str, Any] = {**ROW, "domain": None}


@pytest.mark.parametrize(
    ("rows", "domain"),
    [
        ([BARE, {**BARE, "gold": "12", "sample_index": 1}], "math"),  # with and without a gold answer
        ([{**BARE, "gold": "12"}, {**BARE, "sample_index": 1}], "math"),
        ([BARE, {**ROW, "sample_index": 1}], "math"),  # named and inferred
        ([ROW, {**BARE, "sample_index": 1}], "math"),
        ([BARE, {**BARE, "sample_index": 1}], "other"),
    ],
)
def test_the_domain_does_not_split_a_query(
    memory: Memory, tmp_path: Path, rows: Sequence[Mapping[str, Any]], domain: str
) -> None:
    assert ingested(memory, tmp_path / "rows.jsonl", *rows).rejected == 0
    assert memory.graph.nodes(NodeLabel.QUERY, ["domain"])["domain"].to_pylist() == [domain]
    assert len(memory.graph.nodes(NodeLabel.ANSWER, ["id"])) == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [({"gold": "13"}, "'13' contradicts '12'"), ({"domain": "code"}, "domain 'code' contradicts the domain 'math'")],
)
def test_a_contradiction_is_rejected_whatever_the_name(
    memory: Memory, tmp_path: Path, row: Mapping[str, Any], reason: str
) -> None:
    ingested(memory, tmp_path / "a.jsonl", {**ROW, "gold": "12"})
    summary = ingested(memory, tmp_path / "b.jsonl", {**ROW, "dataset": "pets", "query_id": "p", **row})
    assert summary.rejected == 1
    assert reason in summary.reject_examples[0]
    assert names_of(memory) == [("cats", "c1", None)]


def test_one_gold_in_two_notations_is_no_contradiction(memory: Memory, tmp_path: Path) -> None:
    ingested(memory, tmp_path / "a.jsonl", {**ROW, "gold": "12"})
    again = {**ROW, "dataset": "pets", "gold": "12.0"}
    assert ingested(memory, tmp_path / "b.jsonl", again).rejected == 0
    assert memory.graph.nodes(NodeLabel.QUERY, ["gold"])["gold"].to_pylist() == ["12"]


def test_a_deleted_dataset_leaves_the_query_of_another(memory: Memory, tmp_path: Path) -> None:
    ingested(memory, tmp_path / "rows.jsonl", *NAMED)
    assert memory.delete(dataset="cats").rollouts == 2
    assert names_of(memory) == [("pets", None, None)]
    assert len(memory.graph.nodes(NodeLabel.QUERY, ["id"])) == 1
    assert memory.delete(dataset="pets").queries == 1
    assert [len(memory.graph.nodes(label, ["id"])) for label in (NodeLabel.QUERY, NodeLabel.DATASET)] == [0, 0]


def test_a_snapshot_knows_the_names(memory: Memory, tmp_path: Path) -> None:
    ingested(memory, tmp_path / "rows.jsonl", *NAMED, {**ROW, "query": "Another?", "dataset": "pets"})
    snapshot = memory.snapshot()
    at = snapshot.queries["text"].to_pylist().index(Q)
    assert first_datasets(snapshot)[at] == "cats"
    assert sorted(first_datasets(snapshot)) == ["cats", "pets"]
    assert (first_keys(snapshot)[at], in_dataset(snapshot, "pets").sum()) == ("c1", 2)
    assert with_keys(snapshot, ["c2"]).tolist() == [row == at for row in range(2)]
    assert with_keys(snapshot, ["nobody"]).sum() == 0
    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder(), settings=SETTINGS) as other:
        other.restore(snapshot)
        assert memory_digest(other) == memory_digest(memory)
        assert len(other.graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET)) == 4
