"""A memory of ten queries: labelled, scored and unscored rollouts, an audit query, and a query of a test split."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.inspector.source import MemorySource, SnapshotSource, Source
from memstore_schema.columns import NodeLabel

MODEL = "m-0123456789abcdef"
LABELLED = "How much is 2 and 2?"
"""Two rollouts that are right, of which one is there twice, and one that is wrong; another one has no label."""
SCORED = "How much is 3 times 3?"
"""Probabilities by the attempt's number, of three answers."""
PROBABILITIES = {0: 0.9, 1: 0.8, 2: 0.4, 3: 0.1}
PARIS = "Which city is the capital of France?"
"""A test query of another dataset."""
AUDIT = "How much is 5 and 5?"


def attempt(query: str, sample: int, answer: str, **more: Any) -> dict[str, Any]:
    return {
        "query": query,
        "dataset": "sums",
        "domain": "math",
        "thinking": f"attempt {sample}",
        "answer": answer,
        "sample_index": sample,
        "policy": "small",
        "run": "first",
        "step": 7,
    } | more


ROWS = [
    attempt(LABELLED, 0, "4", reward=1.0),
    attempt(LABELLED, 1, "4", reward=1.0),
    attempt(LABELLED, 2, "4", reward=1.0, thinking="attempt 1"),
    attempt(LABELLED, 3, "5", reward=0.0),
    attempt(LABELLED, 4, "4.0"),
    attempt(LABELLED, 5, "6"),
    attempt(LABELLED, 6, "4", finish_reason="length", reward=1.0),
    attempt(LABELLED, 7, ""),
    attempt(SCORED, 0, "9", run="second"),
    attempt(SCORED, 1, "9", run="second"),
    attempt(SCORED, 2, "6", run="second"),
    attempt(SCORED, 3, "33", run="second"),
    attempt(AUDIT, 0, "10", reward=1.0, split="audit"),
    attempt(AUDIT, 1, "11", reward=0.0, split="audit"),
    attempt(PARIS, 0, "Paris", reward=1.0, domain="other", dataset="cities", split="test"),
    attempt(PARIS, 1, "Lyon", reward=0.0, domain="other", dataset="cities", split="test"),
    attempt("How much is 7 and 1?", 0, "8"),
]


def build(folder: Path, rows: list[dict[str, Any]]) -> Memory:
    """A new memory of these rows."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    memory = Memory.open(folder / "memory", create=True, embedder=HashEmbedder())
    memory.ingest([folder / "rows.jsonl"])
    return memory


def score(memory: Memory, model: str = MODEL, version: int = 1) -> None:
    """Record a model with `PROBABILITIES` for the rollouts of the run `second`."""
    rollouts = memory.graph.nodes(NodeLabel.THINKING, ["id", "run", "sample_index"]).to_pylist()
    scored = [one for one in rollouts if one["run"] == "second"]
    p = [PROBABILITIES[one["sample_index"]] for one in scored]
    ids, sources = [one["id"] for one in scored], ["predicted"] * len(scored)
    node = {"id": model, "version": version, "snapshot": "s-1", "metrics": "{}", "path": f"models/{model}"}
    memory.record_scores(ScoreBatch(node, pa.table({"id": ids, "probability": p, "reward": p, "source": sources})))


@pytest.fixture(scope="session")
def scored_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    """The memory, open. Do not modify it."""
    with build(tmp_path_factory.mktemp("training-data"), ROWS) as memory:
        score(memory)
        yield memory


@pytest.fixture(scope="session", params=["memory", "snapshot"])
def source(request: pytest.FixtureRequest, scored_memory: Memory) -> Source:
    if request.param == "memory":
        return MemorySource(scored_memory, read_only=True)
    return SnapshotSource(scored_memory.snapshot(), "a snapshot")


@pytest.fixture
def scored_source(scored_memory: Memory) -> Source:
    return MemorySource(scored_memory, read_only=True)
