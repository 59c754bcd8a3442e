"""Restoring a snapshot gives the memory that it was taken from."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from memstore.errors import EmbedderError, InputError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.pipeline.restore import BATCH
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.conformance.graph_blocks import make_influences, make_reliabilities, one_of_each
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.vectors.knn import LinkSettings
from memstore_schema.columns import NodeLabel


def rollouts(path: Path, numbers: range) -> Path:
    rows = [
        {
            "query": f"How many legs have {n} cats?",
            "domain": "math",
            "thinking": "" if sample == 2 else f"{n} times four ({sample})",
            "answer": "" if sample == 1 else str(4 * n + sample),
            "policy": f"p{sample}",
            "run": "r",
            "sample_index": sample,
            "reward": float(sample == 0) if n % 2 else None,
        }
        for n in numbers
        for sample in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def memory(tmp_path: Path) -> Any:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as opened:
        opened.ingest([rollouts(tmp_path / "a.jsonl", range(12))])
        opened.link(LinkSettings(k=3, floor=-0.25))
        chosen = opened.snapshot().thinkings["id"].to_pylist()[:5]
        for version in (1, 2):
            scores = pa.table({"id": chosen, "probability": [0.1 * version] * 5, "reward": [0.0] * 5})
            when = dt.datetime(2026, 1, version, tzinfo=dt.UTC)
            model = {"id": f"m-{version}", "version": version, "metrics": "{}", "created_at": when}
            opened.record_scores(ScoreBatch(model=model, scores=scores, properties={"scored_at": when}))
            opened.graph.replace_influences(make_influences(f"m-{version}", {chosen[0]: one_of_each(opened.graph)}))
        policies = opened.graph.nodes(NodeLabel.POLICY, ["id"])["id"].to_pylist()
        [dataset] = opened.graph.nodes(NodeLabel.DATASET, ["id"])["id"].to_pylist()
        opened.graph.replace_reliabilities(make_reliabilities({(policy, dataset): 0.75 for policy in policies}))
        yield opened


def test_a_restored_memory_equals_the_original(memory: Memory, tmp_path: Path) -> None:
    save_snapshot(memory.snapshot(), tmp_path / "snapshot")
    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder()) as other:
        assert other.restore(load_snapshot(tmp_path / "snapshot")) == 36
        assert memory_digest(other) == memory_digest(memory)
        edges = other.snapshot().edges
        assert [len(edge) for name, edge in edges.items() if name.endswith("_influence")] == [2] * 5
        assert len(edges["reliable_in"]) == 3
        assert other.verify().ok
        assert other.ingest([tmp_path / "a.jsonl"]).added == 0


def test_a_memory_with_content_is_restored_into_only_with_merge(memory: Memory, tmp_path: Path) -> None:
    snapshot = memory.snapshot()
    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder()) as other:
        other.ingest([rollouts(tmp_path / "b.jsonl", range(10, 14))])
        with pytest.raises(InputError, match="--merge"):
            other.restore(snapshot)
        assert other.restore(snapshot, merge=True) == 30
        assert other.verify().ok
        memory.ingest([tmp_path / "b.jsonl"])
        other.link(memory.link_settings)
        assert memory_digest(other) == memory_digest(memory)


def test_merging_keeps_influences_that_the_memory_has(memory: Memory, tmp_path: Path) -> None:
    """An older snapshot brings back the influences that are missing, and overwrites none."""
    first, second = (row["id"] for row in memory.snapshot().thinkings.slice(0, 2).to_pylist())
    [kept, *_] = one_of_each(memory.graph)
    memory.graph.replace_influences(make_influences("m-1", {second: {kept: 0.5}}))
    older = memory.snapshot()
    memory.graph.replace_influences(make_influences("m-1", {first: {kept: 0.125}}))
    newer = influences_of(memory)
    memory.graph.replace_influences(make_influences("m-1", {second: {}}))
    memory.graph.replace_influences(make_influences("m-2", {first: {}}))
    memory.restore(older, merge=True)
    assert influences_of(memory) == newer


def influences_of(memory: Memory) -> list[tuple[object, ...]]:
    query = "MATCH (t:Thinking)-[i:INFLUENCED_BY]->(n) RETURN i.model, t.id, n.id, i.weight"
    return sorted(memory.cypher(query).rows)


def test_a_resumed_restore_writes_the_snapshots_links(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It broke off in each of its steps before."""
    snapshot = memory.snapshot()

    def breaks_off(*_: object) -> None:
        raise OSError("killed here")

    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder()) as other:
        for step in ("_write_vectors", "_write_links", "write_scores"):
            with monkeypatch.context() as patched:
                patched.setattr(f"memstore.pipeline.restore.{step}", breaks_off)
                with pytest.raises(OSError, match="killed here"):
                    other.restore(snapshot)
        other.restore(snapshot)
        assert memory_digest(other) == memory_digest(memory)


def test_a_restored_snapshot_is_restored_again_only_where_rollouts_are_missing(memory: Memory, tmp_path: Path) -> None:
    snapshot = memory.snapshot()
    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder()) as other:
        other.restore(snapshot)
        assert other.restore(snapshot) == 0
        other.ingest([rollouts(tmp_path / "b.jsonl", range(20, 22))])
        assert other.restore(snapshot) == 0
        other.delete(run="r")
        other.ingest([rollouts(tmp_path / "c.jsonl", range(9))])
        with pytest.raises(InputError, match="--merge"):
            other.restore(snapshot)
        assert other.restore(snapshot, merge=True) == 9


def test_an_unfinished_restore_is_finished_only_by_the_same_restore(
    memory: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models" / "m-1").mkdir(parents=True)
    snapshot = memory.snapshot()

    def breaks_off(*_: object) -> None:
        raise OSError("killed here")

    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder()) as other:
        with monkeypatch.context() as patched:
            patched.setattr("memstore.pipeline.restore.copy_models", breaks_off)
            with pytest.raises(OSError, match="killed here"):
                other.restore(snapshot, models=tmp_path / "models")
        other.ingest([rollouts(tmp_path / "b.jsonl", range(2))])
        [problem] = [problem for problem in other.verify(repair=True).problems if problem.kind == "open_restore"]
        assert problem.example == snapshot.manifest.id
        assert "memstore restore" in problem.repair
        with pytest.raises(InputError, match="not empty"):
            other.restore(replace(snapshot, manifest=replace(snapshot.manifest, id="s-another")))
        assert other.restore(snapshot, models=tmp_path / "models") == 0
        assert (other.models_folder / "m-1").is_dir()
        assert memory_digest(other) == memory_digest(memory)


def test_the_snapshots_links_are_written_only_under_its_own_link_settings(memory: Memory, tmp_path: Path) -> None:
    snapshot = memory.snapshot()
    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder()) as other:
        other.ingest([tmp_path / "a.jsonl"])
        other.link(LinkSettings(k=1, floor=-1.0))
        other.graph.write_batch({"id": BATCH, "state": "open"})  # a merge that was killed
        other.restore(snapshot, merge=True)
        assert other.link_settings == LinkSettings(k=1, floor=-1.0)
        assert len(other.snapshot().edges["query_similar"]) == 12


def test_another_embedder_and_a_snapshot_without_texts_are_refused(memory: Memory, tmp_path: Path) -> None:
    with Memory.open(tmp_path / "other", create=True, embedder=HashEmbedder(dimension=8)) as other:
        with pytest.raises(EmbedderError, match="vectors were made by"):
            other.restore(memory.snapshot())
        with pytest.raises(InputError, match="without texts"):
            other.restore(memory.snapshot(texts=False))
