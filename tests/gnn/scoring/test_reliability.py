"""The reliabilities of policies that `train` and `score` store in the graph."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstore.memory import Memory
from memstore.records.ids import dataset_id, policy_id
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.verdicts import Verdicts, verdicts_of
from memstore_gnn.data.visibility import visible
from memstore_gnn.scoring.reliability import TABLE, estimate_reliabilities, reliability_edges
from memstore_gnn.verbs import score_memory_rollouts, train_memory
from memstore_schema.queries import named_queries

QUERIES = 24
SKILL = {("good", 1): 0.9, ("good", None): 0.6, ("bad", 1): 0.3}


def rows(labelled: int = QUERIES, **changes: Any) -> list[dict[str, Any]]:
    """Two rollouts of each policy for each query; the answer of query n is n, and the first queries are labelled."""
    rng, found = np.random.default_rng(0), []
    for number in range(QUERIES):
        for (policy, step), skill in SKILL.items():
            for sample in range(2):
                right = bool(rng.random() < skill)
                value = str(number if right else number + int(rng.integers(1, 5)))
                row = {"query": f"{number} + 0?", "value": value, "answer": value, "thinking": f"try {sample}: {value}"}
                row |= {"policy": policy, "step": step, "sample_index": sample, "dataset": "sums", "domain": "math"}
                found.append(row | {"reward": float(right) if number < labelled else None} | changes)
    return found


def estimated(snapshot: Snapshot, labels: bool = True) -> dict[tuple[str, str], dict[str, Any]]:
    verdicts = verdicts_of(snapshot, visible(snapshot)) if labels else Verdicts()
    table = reliability_edges(estimate_reliabilities(snapshot, verdicts))
    assert table.schema == TABLE
    return {(row["source"], row["target"]): row for row in table.to_pylist()}


def test_each_policy_at_a_step_has_a_reliability_in_each_dataset(build_snapshot: Callable[..., Snapshot]) -> None:
    other = rows(dataset="words", query="one for all?", value="1", reward=None)[:2]
    found = estimated(build_snapshot([*rows(), *other], dimension=4))
    sums = {key: found[policy_id(*key), dataset_id("sums")] for key in SKILL}
    assert len(found) == len(SKILL) + 1
    for (policy, step), row in sums.items():
        rewards = [one["reward"] for one in rows() if (one["policy"], one["step"]) == (policy, step)]
        assert row["low"] < np.mean(rewards) < row["high"]
        assert row["low"] < row["reliability"] < row["high"]
        assert row["votes"] == QUERIES
        assert QUERIES <= row["judged"] <= 2 * QUERIES
    words = found[policy_id("good", 1), dataset_id("words")]
    assert (words["votes"], words["judged"]) == (1, 0)


def test_the_reliability_without_verdicts_has_no_judged_answers(build_snapshot: Callable[..., Snapshot]) -> None:
    snapshot = build_snapshot(rows(), dimension=4)
    with_labels, without = estimated(snapshot), estimated(snapshot, labels=False)
    assert {row["judged"] for row in without.values()} == {0}
    for key, row in without.items():
        assert row["high"] - row["low"] > with_labels[key]["high"] - with_labels[key]["low"]


def test_programs_and_rollouts_without_a_policy_have_none(build_snapshot: Callable[..., Snapshot]) -> None:
    assert estimated(build_snapshot(rows(domain="code"), dimension=4)) == {}
    assert estimated(build_snapshot(rows(policy=None), dimension=4)) == {}
    assert estimated(build_snapshot([], dimension=4)) == {}


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(labelled=QUERIES // 2)))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as opened:
        opened.ingest([path])
        yield opened


def stored(memory: Memory) -> list[tuple[Any, ...]]:
    query = next(query for query in named_queries() if query.name == "reliability")
    return list(memory.cypher(query.text, query.parameters).rows)


def test_train_and_score_store_what_the_model_may_see(memory: Memory) -> None:
    train_memory(memory, budget=0.5, epochs=1)
    trained = stored(memory)
    assert [row[:3] for row in trained] == [("good", 1, "sums"), ("good", None, "sums"), ("bad", 1, "sums")]
    assert all(0 < judged <= QUERIES // 2 for *_, judged in trained)  # at most two answers to each of 6 queries
    train_memory(memory, epochs=1)
    seeing_all = stored(memory)
    assert [row[:3] for row in seeing_all] == [row[:3] for row in trained]
    assert all(now[-1] > before[-1] for now, before in zip(seeing_all, trained, strict=True))
    thinkings = memory.snapshot().thinkings.select(["id", "policy", "reward"]).to_pylist()
    memory.label({row["id"]: float(row["policy"] == "bad") for row in thinkings if row["reward"] is None})
    assert stored(memory) == seeing_all
    score_memory_rollouts(memory)
    assert stored(memory)[0][0] == "good"
    assert stored(memory)[0][3] < seeing_all[0][3]


def test_scoring_again_replaces_the_models_own_scores(tmp_path: Path) -> None:
    """Labels that come after a score count in the next one, also in the graph."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(labelled=12)))
    text = (
        "MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[s:SCORED_BY]->(:RewardModel) WHERE q.text = '20 + 0?' "
        "RETURN t.id AS id, s.source AS source, s.probability AS probability ORDER BY id"
    )
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([file])
        train_memory(memory, budget=1.0, device="cpu")
        score_memory_rollouts(memory, device="cpu")
        before = memory.cypher(text).to_pandas()
        [right] = memory.cypher(
            "MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:LEADS_TO]->(a:Answer) WHERE q.text = '20 + 0?' AND "
            "a.value = '20' RETURN t.id AS id ORDER BY id LIMIT 1"
        ).to_pandas()["id"]
        memory.label({right: 1.0})
        score_memory_rollouts(memory, device="cpu")
        after = memory.cypher(text).to_pandas()
    assert set(before["source"]) == {"predicted"}
    others = after[after["id"] != right]
    assert list(after["id"]) == list(before["id"])
    assert set(others["source"]) == {"remembered"}
    assert set(others["probability"]) <= {0.0, 1.0}
