"""A graph that `neo4j-admin` imports from the files of a snapshot equals that of a restore by batches.

The importer takes an empty database, so these tests have servers of their own.
"""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import neo4j
import pyarrow as pa
import pytest
from pydantic import SecretStr

from memstore.errors import InputError, LocationError, SchemaError, StoreError, StoreFullError
from memstore.graph.neo4j import Neo4jGraph
from memstore.graph.neo4j.admin import run_import
from memstore.graph.protocol import ScoreBatch
from memstore.locations.location import ServerLocation
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.pipeline.neo4j_files import ARGUMENTS, check_imported, write_import_files
from memstore.progress import Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.conformance.graph_blocks import make_influences, make_reliabilities, one_of_each
from memstore.testing.conformance.memory_fixtures import thinkings
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.testing.servers.neo4j import Neo4jServer, home
from memstore_schema.columns import NodeLabel
from memstore_schema.queries import named_queries

SETTINGS = Settings(link_floor=-1.0)
WHEN = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)
HOSTILE = (
    'a "quoted" text, with a comma',
    "two\nlines\r\nand\rmore\n",
    "  spaces  ",
    "\\ and \\n and \\\" and 'x'",
    "e\u0301 \u2028 \U0001f600 \ufeff",
    ";|\t{}$`",
    '"',
    "",
)
"""Thinkings that a careless writer or reader of CSV changes."""


def rows(first: int = 0) -> list[dict[str, Any]]:
    """Rollouts of five queries from `first` on, with hostile texts, missing values and labels."""
    return [
        {
            "query": f"How many legs\nhave {number} cats?",
            "query_id": f"legs/{number}" if number % 2 else None,
            "dataset": "legs" if number % 3 else "tails",
            "gold": str(4 * number) if number % 2 else None,
            "policy": "tiny" if number != 2 else None,
            "run": "first",
            "step": number,
            "sample_index": sample,
            "mean_logprob": -0.1 * sample if sample else None,
            "metadata": {"note": text} if sample % 2 else None,
            "thinking": text and f"{text} ({number})",
            "answer": str(4 * number + sample % 2),
            "reward": float(sample % 2 == 0) if number % 2 else None,
        }
        for number in range(first, first + 5)
        for sample, text in enumerate(HOSTILE)
    ]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """A snapshot with something in every table."""
    folder = tmp_path_factory.mktemp("source")
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder(), settings=SETTINGS) as memory:
        assert not memory.ingest([written(folder / "rows.jsonl", rows())]).rejected
        chosen = thinkings(memory)[:4]
        scores = pa.table({"id": chosen, "probability": [0.1] * 4, "reward": [0.3] * 4})
        model = {"id": "m-1", "version": 1, "metrics": '{"auc": 0.9}', "created_at": WHEN}
        memory.record_scores(ScoreBatch(model=model, scores=scores, properties={"scored_at": WHEN}))
        memory.graph.replace_influences(make_influences("m-1", {chosen[0]: one_of_each(memory.graph)}))
        policy, dataset = (
            memory.graph.nodes(label, ["id"])["id"][0].as_py() for label in (NodeLabel.POLICY, NodeLabel.DATASET)
        )
        memory.graph.replace_reliabilities(make_reliabilities({(policy, dataset): 0.75}))
        return memory.snapshot()


def written(path: Path, given: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in given), encoding="utf-8")
    return path


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Neo4jServer]:
    """A server that was never started; its neo4j-admin works on it."""
    distribution = home()
    if distribution is None:
        request.getfixturevalue("neo4j_login")  # skips or fails, with the reason, unless another server is named
        pytest.skip("these tests import into a server that is stopped; set NEO4J_HOME to a distribution")
    server = Neo4jServer(distribution, tmp_path / "server")
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    yield server
    server.stop()


@pytest.fixture
def admin(server: Neo4jServer) -> str:
    """The command neo4j-admin of the server."""
    return str(server.home / "bin" / "neo4j-admin")


def place(server: Neo4jServer, milvus_uri: str, namespace: str) -> ServerLocation:
    return ServerLocation(
        name=namespace,
        neo4j_uri=server.uri,
        neo4j_user=server.user,
        neo4j_password=SecretStr(server.password),
        neo4j_database="neo4j",
        milvus_uri=milvus_uri,
        milvus_token=None,
        namespace=namespace,
        folder=server.folder / "local" / namespace,
    )


def opened(location: ServerLocation) -> Memory:
    return Memory.open(location, create=True, embedder=HashEmbedder(), settings=SETTINGS)


def stored(server: Neo4jServer, namespace: str) -> list[str]:
    """All nodes and relationships of a namespace with their properties, as the server prints them."""
    nodes = (
        "MATCH (n {namespace: $name}) WHERE NOT n:MemstoreNamespace "
        "RETURN labels(n), [k IN keys(n) WHERE k <> 'namespace' | [k, valueType(n[k]), toString(n[k])]]"
    )
    edges = (
        "MATCH (a {namespace: $name})-[r]->(b) "
        "RETURN labels(a), a.id, type(r), labels(b), b.id, [k IN keys(r) | [k, valueType(r[k]), toString(r[k])]]"
    )
    with neo4j.GraphDatabase.driver(server.uri, auth=(server.user, server.password)) as driver:
        found = [record.values() for text in (nodes, edges) for record in driver.execute_query(text, name=namespace)[0]]
    return sorted(repr([*head, sorted(properties)]) for *head, properties in found)


def imported(snapshot: Snapshot, folder: Path, namespace: str, admin: str, *, overwrite: bool = False) -> None:
    write_import_files(snapshot, folder, namespace)
    run_import(admin, folder, ARGUMENTS, "neo4j", overwrite=overwrite, progress=Silent())


def test_an_imported_memory_is_one_written_by_batches(
    server: Neo4jServer, admin: str, milvus_uri: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    """The same nodes, properties with their types, relationships, answers, constraints, vectors and growth."""
    bulk, batches = (f"{name}-{uuid.uuid4().hex[:8]}" for name in ("bulk", "batches"))
    imported(snapshot, tmp_path / "files", bulk, admin)
    server.start()
    with opened(place(server, milvus_uri, bulk)) as one, opened(place(server, milvus_uri, batches)) as two:
        assert [problem.kind for problem in one.verify().problems][:1] == ["open_restore"]
        assert one.restore(snapshot) == two.restore(snapshot) == len(snapshot.thinkings)
        assert stored(server, bulk) == stored(server, batches)
        assert memory_digest(one) == memory_digest(two)
        assert one.snapshot().manifest.id == snapshot.manifest.id
        assert one.verify().ok
        for query in named_queries():
            answers = [list(memory.cypher(query.text, query.parameters).rows) for memory in (one, two)]
            assert answers[0] == answers[1], query.name
        assert one.restore(snapshot) == 0  # it is complete
        more = written(tmp_path / "more.jsonl", rows(first=3))
        for memory in (one, two):
            summary = memory.ingest([more])
            assert (summary.added, summary.unchanged) == (3 * len(HOSTILE), 2 * len(HOSTILE))
        assert memory_digest(one) == memory_digest(two)
        assert one.verify().ok
    with neo4j.GraphDatabase.driver(server.uri, auth=(server.user, server.password)) as driver:
        states = driver.execute_query("SHOW INDEXES YIELD name, state, owningConstraint")[0]
        states = [record for record in states if record["owningConstraint"]]
        assert len(states) == 12
        assert {record["state"] for record in states} == {"ONLINE"}


class Stopping(Silent):
    """Stops the import at its second stage."""

    def stage(self, name: str, total: int | None = None) -> None:
        if name == "import: relationships":
            raise KeyboardInterrupt


def test_an_import_is_repeated_and_refused_where_it_does_not_fit(
    server: Neo4jServer, admin: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    """An interrupted import, a database with content, a running one, and a graph that is not the snapshot's."""
    files = tmp_path / "files"
    write_import_files(snapshot, files, "bulk")
    with pytest.raises(KeyboardInterrupt):
        run_import(admin, files, ARGUMENTS, "neo4j", overwrite=False, progress=Stopping())
    with pytest.raises(LocationError, match="the database neo4j exists: .* an import of it was interrupted"):
        imported(snapshot, files, "bulk", admin)
    imported(snapshot, files, "bulk", admin, overwrite=True)
    server.start()
    with Neo4jGraph.open(server.uri, user=server.user, password=server.password, namespace="bulk") as graph:
        check_imported(graph, snapshot, "bulk")
        with pytest.raises(LocationError, match="the database neo4j is running; stop the server"):
            imported(snapshot, files, "bulk", admin, overwrite=True)
        check_imported(graph, snapshot, "bulk")
        graph.cypher("MATCH (:Thinking)-[s:SIMILAR_TO]->() WITH s LIMIT 1 SET s.score = 0.5", write=True)
        with pytest.raises(StoreError, match=r"is not that of the snapshot s-\w+ \(other ids, labels or links\)"):
            check_imported(graph, snapshot, "bulk")
        graph.cypher("MATCH (:Thinking)-[s:SIMILAR_TO]->() WITH s LIMIT 1 DELETE s", write=True)
        wrong = rf"\({len(snapshot.edges['thinking_similar']) - 1} of \d+ SIMILAR_TO relationships\)"
        with pytest.raises(StoreError, match=wrong):
            check_imported(graph, snapshot, "bulk")


def test_a_full_disk_of_the_server_is_one_sentence(
    server: Neo4jServer, admin: str, snapshot: Snapshot, tmp_path: Path
) -> None:
    limited = script(tmp_path, f'[ "$1" = --version ] && exec {admin} "$@"\nexec prlimit --fsize=65536 {admin} "$@"')
    with pytest.raises(StoreFullError, match="the disk of the database neo4j is full and the import is not whole"):
        imported(snapshot, tmp_path / "files", "full", limited)


def script(folder: Path, text: str) -> str:
    path = folder / "admin.sh"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("echo 4.4.30", SchemaError, "is of Neo4j 4.4.30, and the files need the importer of Neo4j 5 or newer"),
        ("echo hello", InputError, r"does not tell its version \(hello\); name the neo4j-admin of the server"),
        ("echo JAVA_HOME is wrong >&2; exit 1", InputError, r"\(JAVA_HOME is wrong\)"),
        (
            "[ $1 = --version ] && { echo 5.26.0; exit; }; echo; echo Invalid value; echo Run with '--verbose'; exit 1",
            StoreError,
            r"could not import into the database neo4j \(Invalid value\); correct that",
        ),
    ],
)
def test_another_command_is_one_sentence(tmp_path: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run_import(script(tmp_path, text), tmp_path, ARGUMENTS, "neo4j", overwrite=False, progress=Silent())


def test_a_missing_command_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be run \(No such file or directory\); name the neo4j-admin"):
        run_import(str(tmp_path / "x"), tmp_path, ARGUMENTS, "neo4j", overwrite=False, progress=Silent())
