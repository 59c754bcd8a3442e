"""Conformance suite of memories, as a class of pytest tests: repair, reembedding, moving.

    class TestEmbedded(MemoryConformance):
        @pytest.fixture
        def open_memory(self, tmp_path):
            def open_memory(name="memory", *, create=False, embedder=None):
                return Memory.open(tmp_path / name, create=create, embedder=embedder, settings=SETTINGS)
            return open_memory

`open_memory` opens the same place for the same name (`one` and `two` are used), with the embedder it is given.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.embedding.protocol import ProgressCallback
from memstore.errors import EmbedderError, InputError
from memstore.graph.protocol import ScoreBatch
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.pipeline.delete import delete_namespace
from memstore.testing.digest import memory_digest
from memstore.testing.embedder import HashEmbedder
from memstore.testing.killed_reembed import kill_reembed
from memstore.types import FloatMatrix
from memstore_schema.columns import NodeLabel

SETTINGS = Settings(link_floor=-1.0)
QUERIES, SAMPLES = 5, 3
OpenMemory = Callable[..., Memory]


class Interrupted(Exception):
    """Simulates a kill at this point."""


class BreakingEmbedder:
    """An embedder other than `HashEmbedder()` that fails after some texts."""

    def __init__(self, after: int) -> None:
        self._whole = HashEmbedder(dimension=16)
        self._left = after
        self.fingerprint = self._whole.fingerprint

    def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> FloatMatrix:
        """Embed texts until the limit, then raise `Interrupted`."""
        self._left -= len(texts)
        if self._left < 0:
            raise Interrupted
        return self._whole.embed(texts, progress)


def write_rollouts(path: Path, queries: range = range(QUERIES), *, run: str = "first", dataset: str = "legs") -> Path:
    """A file of rollouts of these queries."""
    rows = [
        {
            "query": f"How many legs have {number} cats?",
            "dataset": dataset,
            "policy": "tiny",
            "run": run,
            "sample_index": sample,
            "thinking": f"A cat has four legs, so {number} cats have {number} * 4 ({sample}).",
            "answer": str(4 * number + sample % 2),
            "reward": float(sample == 0) if number % 2 else None,
        }
        for number in queries
        for sample in range(SAMPLES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def thinkings(memory: Memory) -> list[str]:
    """Ids of all rollouts."""
    ids: list[str] = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
    return ids


class MemoryConformance:
    """Subclass it and provide `open_memory`."""

    @pytest.fixture
    def open_memory(self) -> OpenMemory:
        """Opens the memory of a name: `open_memory(name, create=, embedder=)`."""
        raise NotImplementedError

    @pytest.fixture
    def filled(self, open_memory: OpenMemory, tmp_path: Path) -> OpenMemory:
        """`open_memory` where `one` has rollouts, links and a model's predictions."""
        with open_memory("one", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([write_rollouts(tmp_path / "legs.jsonl")])
            chosen = thinkings(memory)[:4]
            scores = pa.table({"id": chosen, "probability": [0.25] * 4, "reward": [0.0] * 4})
            when = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
            model = {"id": "m-1", "version": 1, "metrics": "{}", "created_at": when}
            memory.record_scores(ScoreBatch(model=model, scores=scores, properties={"scored_at": when}))
            assert memory.verify().ok
        return open_memory

    # -- delete --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("chosen", [{"run": "second"}, {"dataset": "tails"}, {"run": "second", "dataset": "tails"}])
    def test_deleting_what_was_added_restores_the_memory(
        self, filled: OpenMemory, tmp_path: Path, chosen: dict[str, Any]
    ) -> None:
        more = write_rollouts(tmp_path / "more.jsonl", range(2, QUERIES + 3), run="second", dataset="tails")
        with filled("one", embedder=HashEmbedder()) as memory:
            before = memory_digest(memory)
            memory.ingest([more])
            counted = memory.delete(**chosen, dry_run=True)
            assert memory.stats().thinkings == QUERIES * SAMPLES + counted.rollouts
            deleted = memory.delete(**chosen)
            assert (counted.rollouts, counted.queries, counted.runs) == ((QUERIES + 1) * SAMPLES, QUERIES + 1, 1)
            assert deleted.rollouts == counted.rollouts
            assert deleted.vectors == deleted.rollouts + deleted.queries
            assert memory.verify().ok
            assert memory_digest(memory) == before

    def test_a_run_on_shared_queries_leaves_the_queries(self, filled: OpenMemory, tmp_path: Path) -> None:
        more = write_rollouts(tmp_path / "more.jsonl", range(QUERIES + 1), run="second")
        with filled("one", embedder=HashEmbedder()) as memory:
            before = memory_digest(memory)
            memory.ingest([more])
            deleted = memory.delete(run="second")
            assert (deleted.queries, deleted.rollouts) == (1, (QUERIES + 1) * SAMPLES)
            assert memory.verify().ok
            assert memory_digest(memory) == before

    def test_unknown_names_delete_nothing(self, filled: OpenMemory) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            before = memory_digest(memory)
            cases: list[tuple[dict[str, Any], str]] = [
                ({"run": "fist"}, "did you mean 'first'"),
                ({"dataset": "arms"}, "it has legs"),
                ({"run": "first", "dataset": "arms"}, "no dataset 'arms'"),
                ({}, "pass a run or a dataset"),
            ]
            for chosen, message in cases:
                with pytest.raises(InputError, match=message):
                    memory.delete(**chosen)
            assert memory_digest(memory) == before

    def test_an_interrupted_delete_is_repaired_or_finished(
        self, filled: OpenMemory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The call is interrupted before each of its steps in turn."""
        more = write_rollouts(tmp_path / "more.jsonl", range(3, QUERIES + 2), run="second", dataset="tails")
        monkeypatch.setattr("memstore.pipeline.delete.BLOCK_NODES", 5)
        with filled("one", embedder=HashEmbedder()) as memory:
            before = memory_digest(memory)
            interrupted = 0
            for allowed in range(20):
                memory.ingest([more])
                with monkeypatch.context() as patch:
                    _interrupt_after(patch, memory, allowed)
                    try:
                        memory.delete(run="second")
                    except Interrupted:
                        interrupted += 1
                    else:
                        break
                assert memory.verify(repair=True).ok
                if "second" in memory.graph.nodes(NodeLabel.RUN, ["name"])["name"].to_pylist():
                    memory.delete(run="second")
                assert memory.verify().ok
                assert memory_digest(memory) == before
            assert interrupted >= 8

    def test_a_label_is_set_and_removed(self, filled: OpenMemory) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            before = memory_digest(memory)
            table = memory.graph.nodes(NodeLabel.THINKING, ["id", "reward"]).to_pylist()
            labelled = {row["id"]: row["reward"] for row in table if row["reward"] is not None}
            assert memory.label(dict.fromkeys(row["id"] for row in table)) == len(labelled)
            assert memory.stats().labelled_thinkings == 0
            assert memory.label(dict.fromkeys(labelled)) == 0
            with pytest.raises(InputError, match="t-nobody"):
                memory.label({"t-nobody": None})
            assert memory.label(labelled, source="ground_truth") == len(labelled)
            assert memory_digest(memory) == before

    def test_a_namespace_is_emptied_and_can_be_filled_again(self, filled: OpenMemory, tmp_path: Path) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            assert delete_namespace(memory.stores, dry_run=True).rollouts == QUERIES * SAMPLES
            deleted = delete_namespace(memory.stores)
            assert (deleted.queries, deleted.models) == (QUERIES, 1)
            assert memory.verify().ok
            assert [memory.graph.nodes(label, ["id"]).num_rows for label in NodeLabel] == [0] * len(NodeLabel)
            assert memory.vectors.count() == 0
            assert memory.ingest([tmp_path / "legs.jsonl"]).added == QUERIES * SAMPLES
            assert memory.verify().ok

    # -- verify and repair ---------------------------------------------------------------------------------------

    def mended(self, memory: Memory, kind: str, count: int) -> None:
        """`kind` is found, `count` of it and nothing else; a repair mends it, and then it is gone."""
        assert {problem.kind: problem.count for problem in memory.verify().problems} == {kind: count}
        report = memory.verify(repair=True)
        assert report.ok, report.problems
        assert [problem.kind for problem in report.repaired] == [kind]
        assert memory.verify().ok

    def test_verify_finds_and_repairs_planted_problems(self, filled: OpenMemory) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            whole = memory_digest(memory)
            ids = thinkings(memory)

            memory.vectors.upsert("thinking", ["t-nobody", "t-noone"], np.ones((2, 32), np.float32))
            self.mended(memory, "orphan_vector", 2)

            memory.vectors.delete(ids[:3])
            self.mended(memory, "missing_vector", 3)

            memory.vectors.upsert("thinking", ids[:2], HashEmbedder().embed(["another", "text"]))
            self.mended(memory, "changed_vector", 2)

            batch = memory.graph.nodes(NodeLabel.BATCH, ["id"])["id"][0].as_py()
            memory.graph.write_batch({"id": batch, "state": "open"})
            self.mended(memory, "open_batch", 1)

            memory.cypher("MATCH (t:Thinking) WHERE t.id = $id SET t.linked = ''", {"id": ids[5]}, write=True)
            self.mended(memory, "unlinked_node", 1)

            unlink = "MATCH (t:Thinking)-[s:SIMILAR_TO]->(other:Thinking) WHERE t.id = $id DELETE s"
            memory.cypher(unlink, {"id": ids[6]}, write=True)
            self.mended(memory, "missing_link", 1)
            assert memory_digest(memory) == whole

    def test_vectors_of_another_embedder_are_found_and_removed(self, filled: OpenMemory) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            with memory.stores.embedding_with(HashEmbedder(dimension=16)):
                memory.vectors.upsert("query", ["q-1"], np.ones((1, 16), np.float32))
            self.mended(memory, "other_embedder", 1)

    def test_a_repair_embeds_texts_that_the_cache_lacks(self, filled: OpenMemory) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            folder = memory.cache.folder
        for file in folder.iterdir():
            if file.is_file():
                file.unlink()
        embedder = HashEmbedder()
        with filled("one", embedder=embedder) as memory:
            memory.vectors.delete(thinkings(memory)[:4])
            self.mended(memory, "missing_vector", 4)
        assert embedder.calls == 4

    # -- another embedder ----------------------------------------------------------------------------------------

    def test_reembed_replaces_vectors_and_links_and_deletes_the_old(self, filled: OpenMemory, tmp_path: Path) -> None:
        with filled("one") as memory:
            summary = memory.reembed(HashEmbedder(dimension=16))
            assert summary.vectors == {"query": QUERIES, "thinking": QUERIES * SAMPLES}
            assert memory.vectors.collections() == [str(HashEmbedder(dimension=16).fingerprint)]
            assert memory.verify().ok
            moved = memory_digest(memory)
        with filled("two", create=True, embedder=HashEmbedder(dimension=16)) as fresh:
            fresh.ingest([tmp_path / "legs.jsonl"])
            expected = links(fresh)
        with filled("one", embedder=HashEmbedder(dimension=16)) as memory:
            assert memory_digest(memory) == moved
            assert links(memory) == expected
            assert memory.ingest([tmp_path / "legs.jsonl"]).unchanged == QUERIES * SAMPLES
        with pytest.raises(EmbedderError, match="memstore reembed"):
            filled("one", embedder=HashEmbedder())

    @pytest.mark.parametrize("after", [0, QUERIES, QUERIES + 4])
    def test_an_interrupted_reembed_leaves_the_memory_unchanged(self, filled: OpenMemory, after: int) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            before = memory_digest(memory)
            with pytest.raises(Interrupted):
                memory.reembed(BreakingEmbedder(after))
            assert memory_digest(memory) == before
            assert memory.fingerprint == HashEmbedder().fingerprint
            assert {problem.kind for problem in memory.verify().problems} == {"other_embedder"}
        again = HashEmbedder(dimension=16)
        with filled("one") as memory:
            memory.reembed(again)
            assert memory.verify().ok
            assert memory.vectors.collections() == [str(again.fingerprint)]

    def test_a_reembed_interrupted_at_the_links_is_finished_by_the_next(
        self, filled: OpenMemory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        new = HashEmbedder(dimension=16)
        with filled("one") as memory, monkeypatch.context() as patch:
            patch.setattr("memstore.pipeline.reembed.link_memory", _interrupted)
            with pytest.raises(Interrupted):
                memory.reembed(new)
        with filled("one", embedder=new) as memory:
            assert memory.stores.replaced_embedder == str(HashEmbedder().fingerprint)
            assert "unlinked_node" in {problem.kind for problem in memory.verify().problems}
            assert memory.reembed(new).vectors == {"query": 0, "thinking": 0}
            assert memory.stores.replaced_embedder is None
            assert memory.verify().ok

    @pytest.mark.timeout(1200)
    def test_a_killed_reembed_is_finished_by_the_next(self, filled: OpenMemory, tmp_path: Path) -> None:
        """Killed before each call in turn: the memory is old until all vectors exist, then new; old vectors go last."""
        old, new = HashEmbedder(), HashEmbedder(dimension=16)
        both = {str(old.fingerprint), str(new.fingerprint)}
        with filled("one", embedder=old) as memory:
            location, before = str(memory.location), memory_digest(memory)
        for step, count in (("cache", 1), ("vectors", 2), ("flush", 1), ("meta", 1)):
            kill_reembed(location, 16, step, count)
            with filled("one", embedder=old) as memory:
                assert memory_digest(memory) == before, (step, count)
                assert {problem.kind for problem in memory.verify().problems} <= {"other_embedder"}
        for step, count, left in (("links", 1, both), ("links", 2, both), ("discard", 1, both), ("meta", 1, None)):
            kill_reembed(location, 16, step, count)
            with filled("one", embedder=new) as memory:
                assert set(memory.vectors.collections()) == (left or {str(new.fingerprint)}), (step, count)
                assert memory.stores.replaced_embedder == str(old.fingerprint)
        with filled("one", embedder=new) as memory:
            assert memory.reembed(new).vectors == {"query": 0, "thinking": 0}
            assert memory.stores.replaced_embedder is None
            assert memory.verify().ok
            moved = links(memory)
        with filled("two", create=True, embedder=new) as fresh:
            fresh.ingest([tmp_path / "legs.jsonl"])
            assert moved == links(fresh)

    def test_an_empty_memory_has_nothing_to_reembed(self, open_memory: OpenMemory) -> None:
        with open_memory("one", create=True) as memory, pytest.raises(InputError, match="no vectors to convert yet"):
            memory.reembed(HashEmbedder())

    # -- moving --------------------------------------------------------------------------------------------------

    def test_a_memory_moves_to_a_folder_and_back_without_loss(self, filled: OpenMemory, tmp_path: Path) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            there = memory_digest(memory)
            snapshot = memory.snapshot()
        with Memory.open(tmp_path / "between", create=True, embedder=HashEmbedder(), settings=SETTINGS) as between:
            between.restore(snapshot)
            assert memory_digest(between) == there
            back = between.snapshot()
        with filled("two", create=True, embedder=HashEmbedder()) as memory:
            memory.restore(back)
            assert memory_digest(memory) == there
            assert memory.verify().ok
            assert len(memory.snapshot().edges["scored_by"]) == 4
            with pytest.raises(InputError, match="--merge"):
                memory.restore(back)
            assert memory.restore(back, merge=True) == 0
            assert memory_digest(memory) == there

    def test_a_merge_adds_and_links(self, filled: OpenMemory, tmp_path: Path) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            snapshot = memory.snapshot()
        more = write_rollouts(tmp_path / "more.jsonl", range(QUERIES - 1, QUERIES + 2))
        with filled("two", create=True, embedder=HashEmbedder()) as memory:
            memory.ingest([more])
            assert memory.restore(snapshot, merge=True) == (QUERIES - 1) * SAMPLES
            assert memory.verify().ok
            merged = memory_digest(memory)
        with filled("one", embedder=HashEmbedder()) as memory:
            memory.ingest([more])
            assert memory_digest(memory) == merged


def _interrupt_after(patch: pytest.MonkeyPatch, memory: Memory, allowed: int) -> None:
    """Let `delete` make this many writes to graph and vectors, and raise `Interrupted` before the next."""
    left = [allowed]

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Interrupted
            return function(*arguments, **options)

        return call

    patch.setattr(memory.graph, "cypher", counting(memory.graph.cypher))
    patch.setattr(memory.vectors, "delete", counting(memory.vectors.delete))
    patch.setattr(memory.graph, "replace_links", counting(memory.graph.replace_links))


def links(memory: Memory) -> set[tuple[str, str, float]]:
    """All similarity edges, by the ids of their ends."""
    rows = memory.cypher("MATCH (a:Thinking)-[s:SIMILAR_TO]->(b:Thinking) RETURN a.id, b.id, s.score").rows
    return {(str(source), str(target), float(np.float32(score))) for source, target, score in rows}


def _interrupted(stores: object, settings: object = None, *, progress: object = None) -> None:
    raise Interrupted
