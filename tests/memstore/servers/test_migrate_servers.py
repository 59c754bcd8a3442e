"""A memory of schema 1 on Neo4j and Milvus is converted, also after a kill, and other namespaces stay as they are."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import neo4j
import pytest

from memstore.errors import SchemaError
from memstore.locations.location import ServerLocation, resolve_location
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.pipeline import migrate
from memstore.pipeline.migrate import MigrateSummary
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.conformance.memory import Interrupted
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_schema.columns import EdgeType, NodeLabel

pytestmark = pytest.mark.usefixtures("profiles")

SCHEMA_1 = Path(__file__).parents[1] / "migration" / "schema1"
SETTINGS = Settings()


def fill_with_schema_1(location: str) -> None:
    """Put the memory of schema 1 into a namespace, as a memstore of schema 1 leaves it."""
    place = resolve_location(location, SETTINGS)
    assert isinstance(place, ServerLocation)
    stored = json.loads((SCHEMA_1 / "graph.json").read_text(encoding="utf-8"))
    with Memory.open(location, create=True, embedder=HashEmbedder(16), settings=SETTINGS):
        pass  # the constraints of the database
    auth = (place.neo4j_user, place.neo4j_password.get_secret_value())
    with neo4j.GraphDatabase.driver(place.neo4j_uri, auth=auth) as driver, driver.session() as session:
        session.run("MATCH (n:MemstoreNamespace {namespace: $name}) REMOVE n.schema", name=place.namespace)
        for label, nodes in stored["nodes"].items():
            for node in nodes:
                values = {name: _value(name, value) for name, value in node.items() if value is not None}
                session.run(f"CREATE (n:{label}) SET n = $values", values=values | {"namespace": place.namespace})
        for name, edges in stored["edges"].items():
            source, kind, target = name.split()
            session.run(
                f"UNWIND $edges AS e MATCH (a:{source} {{namespace: $space, id: e[0]}}) "
                f"MATCH (b:{target} {{namespace: $space, id: e[1]}}) CREATE (a)-[r:{kind}]->(b) SET r = e[2]",
                space=place.namespace,
                edges=[[a, b, {key: _value(key, value) for key, value in given.items()}] for a, b, given in edges],
            )
        for name in ("embedder", "splitter", "links"):
            session.run(
                "MERGE (m:MemstoreMeta {namespace: $space, name: $name}) SET m.value = $value",
                space=place.namespace,
                name=name,
                value=stored["meta"][name],
            )


def _value(name: str, value: Any) -> Any:
    return dt.datetime.fromisoformat(value) if name.endswith("_at") and isinstance(value, str) else value


def migrated(location: str) -> MigrateSummary:
    return Memory.migrate(location, settings=SETTINGS, embedder=HashEmbedder(16))


def opened(location: str, *, create: bool = False) -> Memory:
    return Memory.open(location, settings=SETTINGS, embedder=HashEmbedder(16), create=create)


def digest_of_the_rows(location: str) -> dict[str, str]:
    """The digest of a memory that the rows of schema 1 were ingested into."""
    with opened(location, create=True) as memory:
        for name in ("one", "two"):
            assert not memory.ingest([SCHEMA_1 / f"{name}.jsonl"]).rejected
        rows = memory.graph.nodes(NodeLabel.THINKING, ["id", "text"]).to_pylist()
        memory.label({row["id"]: 1.0 for row in rows if row["text"] == "So it is bye."})
        return nodes_and_structure(memory)


def nodes_and_structure(memory: Memory) -> dict[str, str]:
    """The parts of a digest that do not depend on the recall of a server's search."""
    without = ("RewardModel", "scored_by", "query_similar", "thinking_similar")
    digests = memory_digest(memory)
    return {name: digests[name] for name in digests if name not in without and not name.endswith("_influence")}


def test_a_namespace_of_schema_1_is_refused_and_then_converted() -> None:
    fill_with_schema_1("one")
    with pytest.raises(SchemaError, match="has schema 1, and this memstore needs schema 2; .*memstore migrate"):
        opened("one")
    summary = migrated("one")
    assert (summary.queries, summary.rollouts) == ({"before": 10, "after": 5}, {"before": 17, "after": 16})
    assert (summary.unrecovered, summary.backup) == (0, None)
    expected = digest_of_the_rows("two")
    with opened("one") as memory:
        assert nodes_and_structure(memory) == expected
        assert memory.verify().ok
        graph = memory.graph
        assert len(graph.edges(EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.QUERY)) == 1
        assert len(graph.edges(EdgeType.INFLUENCED_BY, NodeLabel.THINKING, NodeLabel.THINKING)) == 2
        assert len(graph.edges(EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL)) >= 14
        names = memory.cypher("MATCH (:Query)-[i:IN]->(d:Dataset) RETURN d.name, i.key ORDER BY d.name, i.key")
        assert len(list(names.rows)) == 10
    assert migrated("one") == MigrateSummary({"before": 2, "after": 2})


@pytest.mark.parametrize(
    ("step", "calls"),
    [
        ("write_nodes", 0),
        ("write_scores", 0),
        ("_delete_old", 0),
        ("delete_nodes", 1),
        ("delete_nodes", 2),
        ("_finish", 0),
    ],
)
def test_a_kill_is_finished_by_the_next_call(monkeypatch: pytest.MonkeyPatch, step: str, calls: int) -> None:
    fill_with_schema_1("one")
    with monkeypatch.context() as patch:
        patch.setattr(migrate, step, _broken(getattr(migrate, step), calls))
        with pytest.raises(Interrupted):
            migrated("one")
    if step != "_finish":
        with pytest.raises(SchemaError, match="memstore migrate"):
            opened("one")
    migrated("one")
    expected = digest_of_the_rows("two")
    with opened("one") as memory:
        assert nodes_and_structure(memory) == expected
        assert memory.verify().ok


def _broken(real: Callable[..., object], calls: int) -> Callable[..., object]:
    """The function, which raises `Interrupted` instead of the call after `calls`."""
    left = [calls]

    def call(*args: object, **options: object) -> object:
        if left[0] == 0:
            raise Interrupted
        left[0] -= 1
        return real(*args, **options)

    return call
