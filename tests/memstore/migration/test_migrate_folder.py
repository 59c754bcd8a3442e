"""A memory of schema 1 in a folder is converted: nothing is lost, and a fresh ingest of its rows gives the same."""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from memstore.errors import LocationError, SchemaError
from memstore.graph.ladybug import LadybugGraph
from memstore.memory import Memory
from memstore.pipeline import migrate
from memstore.pipeline.content import read_schema_1
from memstore.pipeline.migrate import Contradictions, MigrateSummary
from memstore.progress import Silent
from memstore.snapshots.files import load_snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.conformance.memory import SETTINGS, Interrupted
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.text import SPLITTER_VERSION
from memstore_schema.columns import EdgeType, NodeLabel

Q, T = NodeLabel.QUERY, NodeLabel.THINKING
FARM = "A farm has 4 hens and 3 goats. How many legs are there?"


def migrated(folder: Path, **options: object) -> MigrateSummary:
    """Convert a memory."""
    return Memory.migrate(folder, settings=SETTINGS, embedder=HashEmbedder(16), **options)  # type: ignore[arg-type]


def opened(folder: Path, *, create: bool = False) -> Memory:
    """Open a memory of the fixture's embedder."""
    return Memory.open(folder, settings=SETTINGS, embedder=HashEmbedder(16), create=create)


def content_of(memory: Memory) -> dict[str, str]:
    """The digest of what an ingest brings: no predictions and no influences."""
    digests, made = memory_digest(memory), ("RewardModel", "scored_by")
    return {name: digests[name] for name in digests if name not in made and not name.endswith("_influence")}


def test_opening_names_the_command_and_changes_nothing(old_memory: Path) -> None:
    for _ in range(2):
        with pytest.raises(SchemaError, match="has schema 1, and this memstore needs schema 2; .*memstore migrate"):
            opened(old_memory)
    with LadybugGraph.open(old_memory / "graph", create=False) as graph:
        assert graph.schema_version() == 1
        assert len(graph.nodes(Q, ["id", "key", "dataset"])) == 10


def test_one_question_is_one_query_with_all_its_names(old_memory: Path) -> None:
    summary = migrated(old_memory)
    assert (summary.queries, summary.rollouts) == ({"before": 10, "after": 5}, {"before": 17, "after": 16})
    assert (summary.contradictions, summary.unrecovered) == ([], 0)
    with opened(old_memory) as memory:
        assert memory.verify().ok
        queries = memory.graph.nodes(Q, ["id", "text", "gold", "domain"]).to_pylist()
        [farm] = [row for row in queries if "hens" in row["text"]]
        assert (farm["text"], farm["gold"], farm["domain"]) == (FARM, "20", "math")
        names = {(row["dataset"], row["key"]) for row in memory.graph.aliases([farm["id"]]).to_pylist()}
        assert names == {
            ("farm", "farm/1"), ("farm", "barn-7"), ("yard", None), ("yard", "y/1"), ("yard", "y/2"), ("attic", "a/1"),
        }  # fmt: skip
        votes = dict(memory.cypher("MATCH (t:Thinking)-[:LEADS_TO]->(a:Answer) RETURN a.value, count(t.id)").rows)
        assert votes["20"] == 5  # "20", "$20$", and "20.0", which was text where the domain was inferred as other


def test_a_fresh_ingest_of_the_rows_gives_the_same_memory(old_memory: Path, schema_1: Path, tmp_path: Path) -> None:
    migrated(old_memory)
    with opened(old_memory) as memory, opened(tmp_path / "fresh", create=True) as fresh:
        for name in ("one", "two"):
            assert not fresh.ingest([schema_1 / f"{name}.jsonl"]).rejected
        hers = fresh.graph.nodes(T, ["id", "text"]).to_pylist()
        fresh.label({row["id"]: 1.0 for row in hers if row["text"] == "So it is bye."})
        assert content_of(memory) == content_of(fresh)
        again = memory.ingest([schema_1 / "one.jsonl", schema_1 / "two.jsonl"])
        assert (again.added, again.changed, again.rejected) == (0, 0, 0)
        assert memory.snapshot().manifest.id == fresh.snapshot().manifest.id


def test_scores_influences_labels_and_batches_are_kept(old_memory: Path, schema_1: Path) -> None:
    before = json.loads((schema_1 / "graph.json").read_text())
    migrated(old_memory)
    with opened(old_memory) as memory:
        graph = memory.graph
        stored = graph.nodes(T, ["reward_source", "batch", "metadata", "finish_reason", "mean_logprob"]).to_pylist()
        assert Counter(row["reward_source"] for row in stored) == {None: 11, "ground_truth": 4, "person": 1}
        assert {row["batch"] for row in stored} == {row["id"] for row in before["nodes"]["Batch"]}
        assert [row["metadata"] for row in stored if row["metadata"]] == ['{"colour": "red"}']
        sampled = [(row["finish_reason"], row["mean_logprob"]) for row in stored]
        assert [one for one in sampled if one != (None, None)] == [("stop", -0.5)]
        scores = graph.edges(EdgeType.SCORED_BY, T, NodeLabel.REWARD_MODEL)
        assert len(scores) in (len(before["edges"]["Thinking SCORED_BY RewardModel"]), 14)
        assert set(scores.properties["source"].to_pylist()) == {"predicted"}
        assert len(graph.edges(EdgeType.INFLUENCED_BY, T, Q)) == 1
        influences = graph.edges(EdgeType.INFLUENCED_BY, T, T).properties
        assert sorted(influences["effect"].to_pylist()) == [-0.25, 0.5]  # schema 1 had the effect as the weight
        assert influences["weight"].to_pylist() == [None, None]
        assert graph.nodes(NodeLabel.RUN, ["name"]).num_rows == 4


def test_the_old_graph_stays_as_a_backup(old_memory: Path) -> None:
    backup = migrated(old_memory).backup
    assert backup == str(old_memory / "graph.schema1")
    with LadybugGraph.open(Path(backup), create=False) as graph:
        assert graph.schema_version() == 1
        assert len(read_schema_1(graph).nodes[T]) == 17


def test_migrating_again_changes_nothing(old_memory: Path) -> None:
    migrated(old_memory)
    with opened(old_memory) as memory:
        before = memory_digest(memory)
    assert migrated(old_memory) == MigrateSummary({"before": 2, "after": 2})
    with opened(old_memory) as memory:
        assert memory_digest(memory) == before


KILLS = [
    ("_build", False),  # nothing is written yet
    ("write_scores", False),  # the new graph is incomplete
    ("first rename", False),  # the new graph is complete, the old one in place
    ("first rename", True),  # no graph is in place
    ("second rename", True),  # the new graph is in place, its vectors have other ids
    ("fill_vectors", True),
    ("link_memory", True),
]
"""Steps of a migration, and whether it is killed after the step instead of before."""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, schema_1: Path) -> dict[str, str]:
    """Digest of the memory after a migration that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    with tarfile.open(schema_1 / "memory.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    migrated(folder / "memory")
    with opened(folder / "memory") as memory:
        return memory_digest(memory)


@pytest.mark.parametrize(("step", "after"), KILLS)
def test_a_kill_at_any_step_is_finished_by_the_next_call(
    old_memory: Path, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    with monkeypatch.context() as patch:
        _break(patch, step, after)
        with pytest.raises(Interrupted):
            migrated(old_memory)
    with contextlib.suppress(SchemaError):
        opened(old_memory).close()  # refused, or complete: opening changes nothing
    migrated(old_memory)
    with opened(old_memory) as memory:
        assert memory_digest(memory) == expected
        assert memory.verify().ok


def test_a_kill_between_the_renames_is_refused_with_the_command(
    old_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _break(patch, "first rename", True)
        with pytest.raises(Interrupted):
            migrated(old_memory)
    with pytest.raises(SchemaError, match="was interrupted; finish it with: memstore migrate"):
        opened(old_memory)


def _break(patch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    """Raise `Interrupted` before or after a step of the migration."""
    if step.endswith("rename"):
        calls, real = iter(range(10)), Path.rename

        def rename(path: Path, target: Path) -> Path:
            here = next(calls) == ("first rename", "second rename").index(step)
            if here and not after:
                raise Interrupted
            moved = real(path, target)
            if here:
                raise Interrupted
            return moved

        patch.setattr(Path, "rename", rename)
        return
    done = getattr(migrate, step)

    def broken(*args: object, **options: object) -> object:
        if after:
            done(*args, **options)
        raise Interrupted

    patch.setattr(migrate, step, broken)


def test_contradictions_are_listed_before_anything_is_written(old_memory: Path) -> None:
    with LadybugGraph.open(old_memory / "graph", create=False) as graph:
        rows = graph.nodes(Q, ["id", "key", "dataset"]).to_pylist()
        [barn] = [row["id"] for row in rows if row["key"] == "barn-7"]
        graph.cypher("MATCH (q:Query) WHERE q.id = $id SET q.gold = '21'", {"id": barn}, write=True)
        [same] = [row["id"] for row in graph.nodes(T, ["id", "query_key"]).to_pylist() if row["query_key"] == "y/2"]
        [twin] = [row["id"] for row in graph.nodes(T, ["id", "text", "query_key"]).to_pylist()
                  if row["text"] == "8 + 12." and row["query_key"] == "farm/1"]  # fmt: skip
        graph.cypher("MATCH (t:Thinking) WHERE t.id = $id SET t.reward = 0.0", {"id": twin}, write=True)
    files = sorted(path.name for path in old_memory.iterdir())
    with pytest.raises(Contradictions) as caught:
        migrated(old_memory)
    gold, reward = caught.value.found
    assert "gold answers '20' (dataset farm, key farm/1) and '21' (dataset farm, key barn-7)" in gold
    assert f"rewards 0 ({twin}) and 1 ({same})" in reward
    assert sorted(path.name for path in old_memory.iterdir()) == files
    for prefer, kept in (("first", ("20", 0.0)), ("second", ("21", 1.0))):
        folder = old_memory.with_name(prefer)
        shutil.copytree(old_memory, folder)
        assert len(migrated(folder, prefer=prefer).contradictions) == 2
        with opened(folder) as memory:
            golds = memory.graph.nodes(Q, ["gold"])["gold"].drop_null().to_pylist()
            rollouts = memory.graph.nodes(T, ["text", "reward"]).to_pylist()
        assert (golds, [row["reward"] for row in rollouts if row["text"] == "8 + 12."]) == ([kept[0]], [kept[1]])


def test_a_memory_of_an_older_splitter_is_read_again(old_memory: Path) -> None:
    with LadybugGraph.open(old_memory / "graph", create=False) as graph:
        graph.write_meta({"splitter": "1"})
        graph.cypher("MATCH (a:Answer) WHERE a.value = '14' SET a.value = 'fourteen'", write=True)
    migrated(old_memory)
    with opened(old_memory) as memory:
        assert memory.stores.splitter == SPLITTER_VERSION
        assert "14" in memory.graph.nodes(NodeLabel.ANSWER, ["value"])["value"].to_pylist()


def test_old_rollouts_are_deleted_by_whole_queries(old_memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run after a kill counts the equal rollouts of a query again, to find their new ids."""
    deleted: list[set[str]] = []

    def delete(graph: object, label: NodeLabel, ids: list[str], *_: object) -> None:
        deleted.extend([set(ids)] if label is T else [])

    monkeypatch.setattr(migrate, "delete_nodes", delete)
    monkeypatch.setattr(migrate, "BLOCK_NODES", 4)
    with LadybugGraph.open(old_memory / "graph", create=False) as graph:
        migrate._delete_old(graph, Silent())
        ids, edges = graph.nodes(T, ["id"])["id"].to_pylist(), graph.edges(EdgeType.GENERATES, Q, T)
    of_query: dict[int, set[str]] = {}
    for query, rollout in zip(edges.source.tolist(), edges.target.tolist(), strict=True):
        of_query.setdefault(query, set()).add(ids[rollout])
    assert len(deleted) > 1
    assert sum(map(len, deleted)) == 17
    assert all(any(own <= block for block in deleted) for own in of_query.values())


def test_the_audit_mark_of_old_rows_is_kept_however_it_is_written(old_memory: Path) -> None:
    with LadybugGraph.open(old_memory / "graph", create=False) as graph:
        text = "MATCH (t:Thinking) WHERE t.query_key = 'y/1' SET t.metadata = '{\"split\": \" Audit\"}'"
        graph.cypher(text, write=True)
    migrated(old_memory)
    with opened(old_memory) as memory:
        splits = memory.cypher("MATCH (:Query)-[i:IN]->(:Dataset) WHERE i.key = 'y/1' RETURN i.split").rows
        assert list(splits) == [("audit",)]


def test_there_must_be_a_memory(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="there is no memory"):
        migrated(tmp_path / "nothing")


def test_an_old_snapshot_opens_as_the_migrated_memory(old_memory: Path, old_snapshot: Path) -> None:
    migrated(old_memory)
    snapshot = load_snapshot(old_snapshot)
    with opened(old_memory) as memory:
        now = memory.snapshot()
    assert snapshot.manifest.schema_version == 2
    for name in ("queries", "thinkings", "answers", "datasets", "runs"):
        assert getattr(snapshot, name)["id"].to_pylist() == getattr(now, name)["id"].to_pylist()
    for name in ("generates", "in", "leads_to", "scored_by"):
        assert snapshot.edges[name].source.tolist() == now.edges[name].source.tolist()
        assert snapshot.edges[name].target.tolist() == now.edges[name].target.tolist()
    assert (snapshot.thinking_x == now.thinking_x).all()
    with opened(old_memory.with_name("restored"), create=True) as memory:
        assert memory.restore(snapshot) == 16
        assert memory.verify().ok
