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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.errors import EmbedderError, InputError, StoreError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.pipeline.delete import delete_namespace
from memstore.snapshots.take import OUTLINE_EDGES, TABLES, take_outline, with_contents
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.conformance.graph_blocks import make_influences, make_reliabilities, one_of_each
from memstore.testing.conformance.killed_reembed import kill_reembed
from memstore.testing.conformance.memory_fixtures import (
    QUERIES,
    SAMPLES,
    SETTINGS,
    BreakingEmbedder,
    Interrupted,
    OpenMemory,
    interrupt_after,
    interrupted_link,
    links,
    thinkings,
    write_rollouts,
)
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_schema.columns import NodeLabel

RELIABLE = (NodeLabel.POLICY, NodeLabel.DATASET)
"""Ends of RELIABLE_IN."""


class MemoryConformance:
    """Subclass it and provide `open_memory`."""

    every_step = 1
    """Of the steps of a deletion, each n-th is interrupted."""

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
            memory.graph.replace_influences(make_influences("m-1", {chosen[0]: one_of_each(memory.graph)}))
            policy, dataset = (memory.graph.nodes(label, ["id"])["id"][0].as_py() for label in RELIABLE)
            memory.graph.replace_reliabilities(make_reliabilities({(policy, dataset): 0.75}))
            assert memory.verify().ok
        return open_memory

    # -- delete --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("chosen", [{"run": "second"}, {"dataset": "tails"}, {"run": "second", "dataset": "tails"}])
    def test_deleting_what_was_added_restores_the_memory(
        self, filled: OpenMemory, tmp_path: Path, chosen: dict[str, Any]
    ) -> None:
        more = write_rollouts(tmp_path / "more.jsonl", range(QUERIES, 2 * QUERIES + 1), run="second", dataset="tails")
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
        """The call is interrupted before each of its steps in turn, or before each n-th, see `every_step`."""
        more = write_rollouts(tmp_path / "more.jsonl", range(QUERIES, 2 * QUERIES - 1), run="second", dataset="tails")
        monkeypatch.setattr("memstore.pipeline.delete.BLOCK_NODES", 5)
        with filled("one", embedder=HashEmbedder()) as memory:
            before = memory_digest(memory)
            interrupted = 0
            for allowed in range(0, 20, self.every_step):
                memory.ingest([more])
                with monkeypatch.context() as patch:
                    interrupt_after(patch, memory, allowed)
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
            assert interrupted >= 8 // self.every_step

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

    def test_deleted_labels_leave_no_verdict(self, filled: OpenMemory, tmp_path: Path) -> None:
        """A second run labels answers that the first run gave without a label; then it is deleted."""
        count = "MATCH (a:Answer) WHERE a.verdict IS NOT NULL RETURN count(a)"
        more = write_rollouts(tmp_path / "more.jsonl", run="second")
        with filled("one", embedder=HashEmbedder()) as memory:
            before, judged = memory_digest(memory), next(memory.cypher(count).rows)[0]
            memory.ingest([more])
            added = memory.graph.nodes(NodeLabel.THINKING, ["id", "run"]).to_pylist()
            memory.label({row["id"]: 1.0 for row in added if row["run"] == "second"}, replace=True)
            assert next(memory.cypher(count).rows)[0] == 2 * QUERIES > judged
            memory.delete(run="second")
            assert memory.verify().ok
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

    def check_repair(self, memory: Memory, kind: str, count: int) -> None:
        """Check that `verify` finds `count` problems of this kind and no others, and that a repair removes them."""
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
            self.check_repair(memory, "orphan_vector", 2)

            memory.vectors.delete(ids[:3])
            self.check_repair(memory, "missing_vector", 3)

            memory.vectors.upsert("thinking", ids[:2], HashEmbedder().embed(["another", "text"]))
            self.check_repair(memory, "changed_vector", 2)

            memory.cypher("MATCH (a:Answer) WHERE a.verdict = 0.0 SET a.verdict_source = 'person'", write=True)
            self.check_repair(memory, "stale_verdict", 2)
            labelled = "MATCH (t:Thinking)-[:LEADS_TO]->(a:Answer) WHERE t.reward = 1.0 "
            memory.cypher(labelled + "SET a.verdict = 1.0", write=True)  # another rollout's label contradicts it
            self.check_repair(memory, "stale_verdict", 2)

            batch = memory.graph.nodes(NodeLabel.BATCH, ["id"])["id"][0].as_py()
            memory.graph.write_batch({"id": batch, "state": "open"})
            self.check_repair(memory, "open_batch", 1)

            memory.cypher("MATCH (t:Thinking) WHERE t.id = $id SET t.linked = ''", {"id": ids[5]}, write=True)
            self.check_repair(memory, "unlinked_node", 1)

            unlink = "MATCH (t:Thinking)-[s:SIMILAR_TO]->(other:Thinking) WHERE t.id = $id DELETE s"
            memory.cypher(unlink, {"id": ids[6]}, write=True)
            self.check_repair(memory, "missing_link", 1)
            assert memory_digest(memory) == whole

    def test_vectors_of_another_embedder_are_found_and_removed(self, filled: OpenMemory) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            with memory.stores.embedding_with(HashEmbedder(dimension=16)):
                memory.vectors.upsert("query", ["q-1"], np.ones((1, 16), np.float32))
            self.check_repair(memory, "other_embedder", 1)

    def test_a_repair_embeds_texts_that_the_cache_lacks(self, filled: OpenMemory) -> None:
        with filled("one", embedder=HashEmbedder()) as memory:
            folder = memory.cache.folder
        for file in folder.iterdir():
            if file.is_file():
                file.unlink()
        embedder = HashEmbedder()
        with filled("one", embedder=embedder) as memory:
            embedded = memory.vectors.backend == "sqlite"
            memory.vectors.delete(thinkings(memory)[:4])
            missing = len(memory.vectors.missing(thinkings(memory)))
            self.check_repair(memory, "missing_vector", missing)
        # An embedded vector store refers to the cache, so that all vectors are lost with it.
        lost = QUERIES + QUERIES * SAMPLES if embedded else 4
        assert embedder.calls == lost

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
            patch.setattr("memstore.pipeline.reembed.link_memory", interrupted_link)
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
        """The memory changes when all new vectors exist, and old vectors are deleted last, wherever it is killed."""
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
            edges = memory.snapshot().edges
            assert (len(edges["scored_by"]), len(edges["reliable_in"])) == (4, 1)
            assert [len(edge) for name, edge in edges.items() if name.endswith("_influence")] == [1] * 5
            assert memory.restore(back) == 0
            assert memory.restore(back, merge=True) == 0
            assert memory_digest(memory) == there

    def test_an_outline_with_contents_is_a_snapshot_without_links(self, filled: OpenMemory) -> None:
        with filled("one") as memory:
            outline, whole = take_outline(memory.stores), memory.snapshot()
            assert "text" not in outline.thinkings.column_names
            assert outline.queries == whole.queries
            assert outline.thinking_x.shape == (len(whole.thinkings), 0)
            read = with_contents(memory.stores, outline)
            memory.delete(dataset=whole.datasets["name"][0].as_py())
            with pytest.raises(StoreError, match="deleted while the memory was read"):
                with_contents(memory.stores, outline)
        for name in TABLES.values():
            assert getattr(read, name) == getattr(whole, name)
        for name in OUTLINE_EDGES:
            ours, theirs = read.edges[name], whole.edges[name]
            assert np.array_equal((ours.source, ours.target), (theirs.source, theirs.target))
            assert ours.properties == theirs.properties
        assert not len(read.edges["thinking_similar"])
        assert np.array_equal(read.thinking_x, whole.thinking_x)
        assert np.array_equal(read.query_x, whole.query_x)
        assert np.array_equal(read.thinking_has_x, whole.thinking_has_x)

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
