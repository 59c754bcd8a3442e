"""A memory on Neo4j and Milvus servers: equal to an embedded one, and isolated from other namespaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import EmbedderError, LocationError, StoreError
from memstore.graph.protocol import LinkUpdate
from memstore.locations.location import ServerLocation
from memstore.locations.profile_status import list_memories
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.pipeline import restore
from memstore.pipeline.delete import delete_namespace
from memstore.pipeline.ingest import IngestOptions
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.vectors.knn import LinkSettings

pytestmark = pytest.mark.usefixtures("profiles")

SETTINGS = Settings(link_floor=-1.0)


def rows(first: int = 0, queries: int = 4) -> list[dict[str, Any]]:
    return [
        {
            "query": f"How many legs have {n} cats?",
            "dataset": "legs",
            "gold": str(4 * n),
            "policy": "tiny",
            "run": "first",
            "sample_index": sample,
            "thinking": f"A cat has four legs, so {n} cats have {n} * 4 legs ({sample}).",
            "answer": str(4 * n + sample % 2),
            "reward": (1.0 if sample % 2 == 0 else 0.0) if n % 2 == 0 else None,
        }
        for n in range(first, first + queries)
        for sample in range(3)
    ]


def write(name: str, given: list[dict[str, Any]]) -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return path


def opened(location: str | Path, *, create: bool = False) -> Memory:
    return Memory.open(location, create=create, embedder=HashEmbedder(), settings=SETTINGS)


def test_the_same_files_give_the_same_memory_embedded_and_on_servers() -> None:
    file = write("legs.jsonl", rows())
    with opened(Path("embedded"), create=True) as embedded, opened("one", create=True) as served:
        assert served.ingest([file]).as_json()["rollouts"] == embedded.ingest([file]).as_json()["rollouts"]
        assert memory_digest(served) == memory_digest(embedded)
        assert isinstance(served.location, ServerLocation)
        assert served.folder.is_relative_to(Path.cwd() / "local")
        assert served.verify().ok
    with opened("one") as again:
        assert again.ingest([file]).unchanged == len(rows())
        assert again.graph.backend == "neo4j"
        assert again.vectors.backend == "milvus"


def test_the_server_searches_and_its_recall_is_reported() -> None:
    with opened("one", create=True) as served:
        served.ingest([write("a.jsonl", rows())], IngestOptions(link=False))
        summary = served.link(LinkSettings(k=2, floor=-0.5))
        assert summary.recall == {"query": 1.0, "thinking": 1.0}
        assert served.link().recall == {}  # nothing was left to search for
        assert served.verify().ok


def test_opening_a_missing_memory_does_not_create_one() -> None:
    with pytest.raises(LocationError, match="there is no memory at"):
        opened("one")
    found = {status.name: status for status in list_memories(SETTINGS)}
    assert "there is no memory at" in (found["one"].reason or "")
    opened("one", create=True).close()
    found = {status.name: status for status in list_memories(SETTINGS)}
    assert found["one"].reachable
    assert not found["two"].reachable


def test_two_namespaces_of_the_same_servers_do_not_see_each_other() -> None:
    file, other = write("a.jsonl", rows()), write("b.jsonl", rows(first=2))
    with opened("one", create=True) as one, opened("two", create=True) as two:
        one.ingest([file])
        before = memory_digest(one)
        assert two.stats().queries == 0
        two.ingest([other])  # half of its rollouts, and so of its ids, are in `one` too
        assert memory_digest(one) == before
        assert two.stats().queries == 4
        assert next(iter(two.cypher("MATCH (q:Query) RETURN count(q)").rows))[0] == 4
        assert sum(map(len, two.vectors.ids("query"))) == 4


def test_an_empty_cache_is_filled_from_the_servers() -> None:
    """A machine without a cache does not embed the texts again."""
    with opened("one", create=True) as memory:
        memory.ingest([write("a.jsonl", rows())])
        there = memory.folder
        digest = memory.snapshot().manifest.id
    there.rename("gone")
    embedder = HashEmbedder()
    with Memory.open("one", embedder=embedder, settings=SETTINGS) as memory:
        assert memory.snapshot().manifest.id == digest
    assert embedder.calls == 0


def test_two_concurrent_openings_have_separate_caches() -> None:
    with opened("one", create=True) as first, opened("one") as second:
        first.ingest([write("a.jsonl", rows(queries=2))])
        second.ingest([write("b.jsonl", rows(first=1, queries=2))])
        assert first.cache.folder != second.cache.folder
        assert first.stats().queries == 3
        names = {first.cache.folder.name, second.cache.folder.name}
    assert names == {"0", "1"}
    with opened("one") as third:
        assert third.cache.folder.name == "0"


def test_another_embedder_and_a_wrong_password_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened("one", create=True) as memory:
        memory.ingest([write("a.jsonl", rows(queries=1))])
    with pytest.raises(EmbedderError, match="the memory one was built with"):
        Memory.open("one", embedder=HashEmbedder(dimension=16))
    monkeypatch.setenv("TEST_NEO4J_PASSWORD", "a-wrong-password")
    with pytest.raises(StoreError) as raised:
        opened("one")
    assert "rejected this user or password" in str(raised.value)
    assert "a-wrong-password" not in str(raised.value)


def test_rollouts_ingested_during_a_restore_are_linked_with_the_restored_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process ingests during a restore into an empty memory; the snapshot's lists would lack its nodes."""
    file, other = write("a.jsonl", rows()), write("b.jsonl", rows(first=4))
    with opened(Path("embedded"), create=True) as embedded:
        embedded.ingest([file])
        snapshot = embedded.snapshot()
        embedded.ingest([other])
        whole = memory_digest(embedded)
    write_links = restore._write_links
    with opened("one", create=True) as restoring, opened("one") as ingesting:

        def after_the_other(memory: Memory, taken: Snapshot) -> bool:
            ingesting.ingest([other])
            return write_links(memory, taken)

        monkeypatch.setattr(restore, "_write_links", after_the_other)
        restoring.restore(snapshot)
        found = memory_digest(restoring)
        assert restoring.verify().ok
    assert found == whole


def test_links_are_restored_under_the_link_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(Path("embedded"), create=True) as embedded:
        embedded.ingest([write("a.jsonl", rows())])
        snapshot, digest = embedded.snapshot(), memory_digest(embedded)
    with opened("one", create=True) as served:
        leases: list[int | None] = []
        replace_links = served.graph.replace_links

        def noted(update: LinkUpdate) -> None:
            leases.append(served.graph._lease)  # type: ignore[attr-defined]
            replace_links(update)

        monkeypatch.setattr(served.graph, "replace_links", noted)
        served.restore(snapshot)
        assert memory_digest(served) == digest
    assert leases == [1, 1]


def test_an_ingest_completes_the_batch_of_a_process_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes ingest one file; one dies between nodes and vectors after the other looked for open batches."""
    file = write("legs.jsonl", rows())

    def dies(*_: object) -> None:
        raise StoreError("killed here")

    with opened("one", create=True) as first, opened("one") as second:
        with monkeypatch.context() as patched:
            patched.setattr("memstore.pipeline.ingest.write_vectors", dies)
            with pytest.raises(StoreError, match="killed here"):
                first.ingest([file])
        with monkeypatch.context() as patched:
            patched.setattr("memstore.pipeline.ingest._Ingest.finish_open_batches", lambda self: None)
            second.ingest([file])
        assert second.verify().ok


def test_deleting_in_one_namespace_leaves_the_same_rollouts_of_another() -> None:
    """A dry run changes nothing on the servers; a deletion of a run or of a namespace stays in its own."""
    first, second = write("a.jsonl", rows()), write("b.jsonl", [{**row, "run": "second"} for row in rows(first=2)])
    with opened("one", create=True) as one, opened("two", create=True) as two:
        for memory in (one, two):
            memory.ingest([first])
        alone = memory_digest(one)
        for memory in (one, two):
            memory.ingest([second])
        both = memory_digest(two)
        for count in (
            lambda: one.delete(run="second", dry_run=True),
            lambda: one.delete(dataset="legs", dry_run=True),
            lambda: delete_namespace(one.stores, dry_run=True),
        ):
            assert count().rollouts in (12, 24)
            assert memory_digest(one) == both
        deleted = one.delete(run="second")
        assert (deleted.rollouts, deleted.queries, deleted.vectors) == (12, 2, 14)
        assert memory_digest(one) == alone
        assert one.verify().ok
        delete_namespace(one.stores)
        assert (one.stats().queries, one.vectors.count()) == (0, 0)
        assert memory_digest(two) == both
        assert two.verify().ok
