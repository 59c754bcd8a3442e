"""Conformance suite of the features of rollouts in a memory; its class is used like `MemoryConformance`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from memstore.errors import InputError, StoreError
from memstore.memory import Memory
from memstore.pipeline import ingest as ingest_module
from memstore.pipeline.delete import delete_namespace
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.testing.conformance.memory_fixtures import Interrupted, OpenMemory
from memstore.testing.doubles.embedder import HashEmbedder

LENGTH = 6


def numbers(index: int, length: int = LENGTH) -> list[float]:
    """Features of rollout `index`, of no unit length."""
    return [0.1 + index, -3.0, *[float(index % 3)] * (length - 2)]


def write_featured(path: Path, features: Sequence[list[float] | None], *, run: str = "first") -> Path:
    """A file with one rollout of a query for each of the given features; None: the rollout has none."""
    rows = [
        {"query": f"How old is cat {index // 2}?", "policy": "tiny", "run": run, "sample_index": index % 2}
        | {"thinking": f"Cat {index // 2} was born then ({index % 2}).", "answer": str(index), "features": values}
        for index, values in enumerate(features)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stored(memory: Memory) -> dict[int, list[float] | None]:
    """The features in a snapshot of the memory, by the answers of the rollouts."""
    snapshot = memory.snapshot()
    leads_to = snapshot.edges["leads_to"]
    answers = snapshot.answers["value"].to_pylist()
    if snapshot.features is None or snapshot.has_features is None:
        return {int(value): None for value in answers}
    return {
        int(answers[target]): snapshot.features[source].tolist() if snapshot.has_features[source] else None
        for source, target in zip(leads_to.source.tolist(), leads_to.target.tolist(), strict=True)
    }


def rounded(features: Sequence[list[float] | None]) -> dict[int, list[float] | None]:
    """What `stored` returns for rollouts with these features: float32."""
    return {
        index: None if values is None else np.array(values, np.float32).tolist()
        for index, values in enumerate(features)
    }


class FeaturesConformance:
    """Subclass it and provide `open_memory`."""

    @pytest.fixture
    def open_memory(self) -> OpenMemory:
        """Opens the memory of a name: `open_memory(name, create=, embedder=)`."""
        raise NotImplementedError

    def test_features_are_read_back_after_the_memory_was_closed(self, open_memory: OpenMemory, tmp_path: Path) -> None:
        given = [numbers(0), None, numbers(2), numbers(3)]
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            assert memory.stores.features_dimension is None
            summary = memory.ingest([write_featured(tmp_path / "rows.jsonl", given)])
            assert (summary.added, summary.features_added, summary.other_keys) == (4, 3, set())
        with open_memory("one", embedder=HashEmbedder()) as memory:
            assert memory.stores.features_dimension == LENGTH
            assert stored(memory) == rounded(given)
            assert memory.verify().ok

    def test_a_row_adds_features_to_a_stored_rollout_and_replaces_none(
        self, open_memory: OpenMemory, tmp_path: Path
    ) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0), None])])
            summary = memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(7), numbers(1)])])
            assert (summary.unchanged, summary.features_added) == (2, 1)
            assert stored(memory) == rounded([numbers(0), numbers(1)])

    def test_features_of_another_length_are_rejected_with_the_reason(
        self, open_memory: OpenMemory, tmp_path: Path
    ) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            first = memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0), numbers(1, 5), None])])
            assert (first.added, first.rejected) == (2, 1)
            again = memory.ingest([write_featured(tmp_path / "more.jsonl", [numbers(0, 5)], run="second")])
            assert (again.added, again.rejected) == (0, 1)
            assert "its features have 5 numbers, and those of the memory have 6" in again.reject_examples[0]
            assert memory.stats().thinkings == 2

    def test_a_rejected_row_does_not_decide_the_length(self, open_memory: OpenMemory, tmp_path: Path) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            file = write_featured(tmp_path / "rows.jsonl", [None, None])
            rows = [json.loads(line) | {"reward": 1.0} for line in file.read_text().splitlines()]
            file.write_text(json.dumps(rows[0]) + "\n")
            memory.ingest([file])
            contradicting = {**rows[0], "reward": 0.0, "features": numbers(0, 5)}
            featured = [{**row, "features": numbers(index)} for index, row in enumerate(rows)]
            file.write_text("".join(json.dumps(row) + "\n" for row in [contradicting, *featured]))
            summary = memory.ingest([file])
            assert (summary.rejected, summary.features_added) == (1, 2)
            assert "contradicts" in summary.reject_examples[0]
            assert stored(memory) == rounded([numbers(0), numbers(1)])

    def test_without_the_last_features_others_may_have_any_length(
        self, open_memory: OpenMemory, tmp_path: Path
    ) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "rows.jsonl", [None, None])])
            memory.ingest([write_featured(tmp_path / "more.jsonl", [numbers(0), numbers(1)], run="second")])
            memory.delete(run="second")
            assert (memory.stores.features_dimension, memory.snapshot().features) == (None, None)
            summary = memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0, 5), None])])
            assert (summary.rejected, summary.features_added) == (0, 1)
            assert stored(memory) == rounded([numbers(0, 5), None])
            assert memory.verify().ok

    def test_an_ingest_killed_before_the_features_adds_them_when_it_is_repeated(
        self, open_memory: OpenMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given, file = [numbers(0), numbers(1)], tmp_path / "rows.jsonl"
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory, monkeypatch.context() as patch:

            def killed(*_: object) -> int:
                raise Interrupted

            patch.setattr(ingest_module, "add_features", killed)
            with pytest.raises(Interrupted):
                memory.ingest([write_featured(file, given)])
        with open_memory("one", embedder=HashEmbedder()) as memory:
            assert stored(memory) == {0: None, 1: None}
            assert memory.ingest([file]).features_added == 2
            assert stored(memory) == rounded(given)

    def test_a_snapshot_takes_features_along(self, open_memory: OpenMemory, tmp_path: Path) -> None:
        given = [numbers(0), None, numbers(2)]
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "rows.jsonl", [None, None, None])])
            without = memory.snapshot().manifest.id
            memory.ingest([write_featured(tmp_path / "rows.jsonl", given)])
            save_snapshot(memory.snapshot(), tmp_path / "snapshot")
        snapshot = load_snapshot(tmp_path / "snapshot")
        assert snapshot.manifest.id != without
        with open_memory("two", create=True, embedder=HashEmbedder()) as memory:
            memory.restore(snapshot)
            assert stored(memory) == rounded(given)
            assert memory.snapshot().manifest.id == snapshot.manifest.id
            assert memory.verify().ok

    def test_a_restore_beside_features_of_another_length_changes_nothing(
        self, open_memory: OpenMemory, tmp_path: Path
    ) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0)])])
            snapshot = memory.snapshot()
        with open_memory("two", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "more.jsonl", [numbers(0, 5)], run="second")])
            with pytest.raises(InputError, match="features have 6 numbers, and those of the memory have 5"):
                memory.restore(snapshot, merge=True)
            assert memory.stats().thinkings == 1

    def test_features_go_with_their_rollouts(self, open_memory: OpenMemory, tmp_path: Path) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0), numbers(1)])])
            memory.ingest([write_featured(tmp_path / "more.jsonl", [numbers(0)] * 3, run="second")])
            memory.delete(run="second")
            assert memory.stores.features.count() == 2
            assert memory.verify().ok
            delete_namespace(memory.stores)
            assert memory.stores.features_dimension is None
            with pytest.raises(StoreError, match="no rollout of the memory"):
                memory.stores.features.count()
            assert memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0, 5)])]).features_added == 1
            assert stored(memory) == rounded([numbers(0, 5)])

    def test_verify_finds_and_removes_features_without_a_rollout(self, open_memory: OpenMemory, tmp_path: Path) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0), numbers(1)])])
            memory.stores.features.upsert("thinking", ["t-gone"], np.ones((1, LENGTH), np.float32))
            assert [(problem.kind, problem.count) for problem in memory.verify().problems] == [("orphan_features", 1)]
            report = memory.verify(repair=True)
            assert report.ok
            assert memory.stores.features.count() == 2

    def test_reembedding_keeps_the_features(self, open_memory: OpenMemory, tmp_path: Path) -> None:
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0), numbers(1)])])
            assert memory.stores.features.count() == 2  # open, so that it is closed with the other stores
            memory.reembed(HashEmbedder(dimension=16))
            assert stored(memory) == rounded([numbers(0), numbers(1)])
            assert memory.verify().ok
