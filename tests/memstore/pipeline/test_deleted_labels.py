"""What deleting a dataset does to the marks of audit queries and to labels that followed from its answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.graph.protocol import GraphStore
from memstore.labels.answers import AnswerVerdict
from memstore.labels.audit import audit_positions, mark_audit
from memstore.memory import Memory
from memstore.records.ids import query_id
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_schema.columns import EdgeType, NodeLabel

SUM = "How much is 2 and 2?"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    """A query with the answer 4 in the dataset aaa, and with 6 and 7 in bbb."""
    rows = [
        {"query": SUM, "query_id": "sum", "dataset": dataset, "domain": "math", "thinking": f"so {answer}",
         "answer": answer, "run": dataset}
        for dataset, answer in (("aaa", "4"), ("bbb", "6"), ("bbb", "7"))
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as opened:
        opened.ingest([file])
        yield opened


def audited(graph: GraphStore) -> set[int]:
    return audit_positions(graph.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, ["split"]))


@pytest.mark.parametrize("gone", ["aaa", "bbb"])
def test_an_audit_query_that_stays_keeps_its_mark(memory: Memory, gone: str) -> None:
    mark_audit(memory.stores, [query_id(SUM)])
    memory.delete(dataset=gone)
    assert audited(memory.graph) == {0}
    [left] = {"aaa", "bbb"} - {gone}
    assert {row["dataset"] for row in memory.graph.aliases([query_id(SUM)]).to_pylist()} == {left}
    memory.delete(dataset=left)
    assert (memory.stats().queries, audited(memory.graph)) == (0, set())


@pytest.mark.parametrize("named", ["dataset", "run"])
def test_labels_that_followed_from_a_deleted_right_answer_are_removed(memory: Memory, named: str) -> None:
    memory.label_answers([AnswerVerdict("sum", "7", 0.0)])
    memory.label_answers([AnswerVerdict("sum", "4", 1.0)])
    memory.delete(**{named: "aaa"})  # type: ignore[arg-type]
    found = memory.cypher("MATCH (:Query)-[:GENERATES]->(t)-[l:LEADS_TO]->() RETURN l.text, t.reward ORDER BY l.text")
    assert list(found.rows) == [("6", None), ("7", 0.0)]
    memory.label_answers([AnswerVerdict(SUM, "6", 1.0)])
    assert memory.verify().ok
