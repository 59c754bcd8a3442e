"""What `explain` writes to a memory adds up, in Cypher, to the score that `score` has written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from memstore.locations.stores import Stores
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import with_contents
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.explain.explain import explain, explain_rollout
from memstore_gnn.explain.measure import CERTAIN
from memstore_gnn.explain.scene import scene_of
from memstore_gnn.explain.shares import logit_of
from memstore_gnn.models.stored_model import open_model, seen_by
from memstore_gnn.verbs import score_memory_rollouts, train_memory
from memstore_schema.queries import named_queries

POLICIES = (("a", 1, 0.9), ("b", 2, 0.4), ("c", None, 0.7))
SCORED = """
MATCH (t:Thinking)-[s:SCORED_BY]->(:RewardModel)
MATCH (t)-[i:INFLUENCED_BY]->()
RETURN t.id AS rollout, s.probability AS probability, s.source AS source, sum(i.weight) AS weight
ORDER BY rollout
"""


def rows() -> Iterator[dict[str, Any]]:
    """Math, which votes settle, and free text, where they do not count. One query has a single label."""
    chance = np.random.default_rng(1)
    for number in range(16):
        for policy, step, skill in POLICIES:
            for sample in range(2):
                value = number + 7 if chance.random() < skill else number + 8
                row = {"query": f"{number} + 7?", "domain": "math" if number % 4 else "other", "policy": policy}
                row |= {"step": step, "sample_index": sample, "dataset": "sums", "run": policy, "answer": str(value)}
                row["thinking"] = f"{policy} tries {sample}: {number} and 7 make {value}"
                if number < 10 or (number == 10 and (policy, sample) == ("a", 0)):
                    row["reward"] = float(value == number + 7)
                yield row


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    folder = tmp_path_factory.mktemp("explained")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([folder / "rows.jsonl"])
        train_memory(memory, epochs=5, device="cpu")
        score_memory_rollouts(memory, device="cpu")
        yield memory


def test_the_edges_of_a_rollout_add_up_to_its_stored_score(memory: Memory) -> None:
    scored = "MATCH (q:Query)-[:GENERATES]->(t:Thinking)-[:SCORED_BY]->() RETURN q.text, t.id ORDER BY q.text, t.id"
    names = dict(memory.cypher(scored).rows)  # the last rollout of each query
    assert len(names) == 6
    for name in names.values():
        explain_rollout(memory, name, write=True, device="cpu")
    found = list(memory.cypher(SCORED).rows)
    assert {row[0] for row in found} == set(names.values())
    assert {row[2] for row in found} == {"predicted", "remembered"}
    for rollout, probability, source, weight in found:
        certain = min(max(probability, CERTAIN), 1.0 - CERTAIN) if source == "remembered" else probability
        assert weight == pytest.approx(logit_of(certain), abs=1e-3), rollout


def test_writing_again_changes_nothing(memory: Memory) -> None:
    edges = "MATCH (t:Thinking)-[i:INFLUENCED_BY]->(n) RETURN t.id, n.id, i.weight, i.effect ORDER BY t.id, n.id"
    name = next(iter(memory.cypher("MATCH (t:Thinking)-[:SCORED_BY]->() RETURN t.id ORDER BY t.id").rows))[0]
    explain_rollout(memory, name, write=True, device="cpu")
    before = list(memory.cypher(edges).rows)
    explain_rollout(memory, name, write=True, device="cpu")
    assert list(memory.cypher(edges).rows) == before


def test_an_explanation_and_the_graph_name_one_reliability(memory: Memory) -> None:
    name = next(row[0] for row in memory.cypher(SCORED).rows if row[2] == "predicted")
    explained = explain_rollout(memory, name, write=True, device="cpu")
    shown = {one.id: one.text for one in explained.influences if one.kind == "reliability"}
    why = {query.name: query for query in named_queries()}["why"]
    result = memory.cypher(why.text, {"rollout": name, "limit": 99})
    rows = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    policies = {row["id"]: row["reliability"] for row in rows if row["kind"] == "a policy"}
    assert len(policies) == len(shown) == len(POLICIES)
    for node, reliability in policies.items():
        assert shown[node].endswith(f"{reliability:.2f} right")
    assert {row["influences"] for row in rows} == {len(rows)}
    assert rows[0]["log_odds"] == pytest.approx(sum(row["weight"] for row in rows))


def test_of_a_large_memory_only_the_labelled_queries_and_the_own_one_are_read(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = memory.snapshot()
    model = open_model(memory, None, "cpu")
    seen = seen_by(model, snapshot)
    query = query_of_thinkings(snapshot)
    labelled = set(query[np.isfinite(seen.reward)].tolist())
    row = next(row for row, own in enumerate(query.tolist()) if own not in labelled)
    whole = explain(scene_of(model, snapshot, seen.reward, row, verdicts_of(snapshot, seen)))
    parts: list[int] = []

    def contents(stores: Stores, part: Snapshot) -> Snapshot:
        parts.append(part.queries.num_rows)
        return with_contents(stores, part)

    monkeypatch.setattr("memstore_gnn.data.read_memory.with_contents", contents)
    monkeypatch.setattr("memstore_gnn.data.read_memory.WHOLE_UP_TO", 0)
    monkeypatch.setattr(Memory, "snapshot", lambda *_: pytest.fail("the whole memory was read"))
    read = explain_rollout(memory, snapshot.thinkings["id"][row].as_py(), device="cpu")
    assert parts == [len(labelled) + 1]
    assert len(labelled) + 1 < snapshot.queries.num_rows
    assert read.as_json() == whole.as_json()
