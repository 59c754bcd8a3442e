"""Read-only servers, TLS, and databases of other projects."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import neo4j
import pytest

from memstore.errors import LocationError, SchemaError, StoreError
from memstore.graph.neo4j import Neo4jGraph
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block
from memstore.testing.servers.neo4j import Neo4jServer, home
from memstore_schema.migrations import migrations


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Neo4jServer]:
    """A server with a self-signed certificate; the tests change its settings and data."""
    distribution = home()
    if distribution is None:
        request.getfixturevalue("neo4j_login")  # skips or fails, with the reason, unless another server is named
        pytest.skip("these tests change the settings of the server; set NEO4J_HOME to a distribution")
    server = Neo4jServer(distribution, tmp_path_factory.mktemp("foreign"), heap="512m")
    certify(server.folder / "certificates")
    server.configure(tls(server.folder / "certificates"))
    with server:
        yield server


def certify(folder: Path) -> None:
    """Create a self-signed certificate for another host name."""
    folder.mkdir()
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=elsewhere.example"
    files = ["-keyout", "private.key", "-out", "public.crt"]
    subprocess.run([*command.split(), *files], cwd=folder, check=True, capture_output=True)


def tls(folder: Path) -> dict[str, str]:
    """Settings for optional TLS with that certificate."""
    return {
        "server.bolt.tls_level": "OPTIONAL",
        "dbms.ssl.policy.bolt.enabled": "true",
        "dbms.ssl.policy.bolt.base_directory": str(folder),
        "dbms.ssl.policy.bolt.client_auth": "NONE",
    }


def opened(server: Neo4jServer, scheme: str = "bolt", **options: str) -> Neo4jGraph:
    uri = server.uri.replace("bolt", scheme)
    return Neo4jGraph.open(uri, user=server.user, password=server.password, **options)


@pytest.fixture
def plainly(server: Neo4jServer) -> Iterator[Callable[..., list[list[object]]]]:
    """Run statements of another project; data and constraints are removed before and after."""

    def run(text: str, **parameters: object) -> list[list[object]]:
        with neo4j.GraphDatabase.driver(server.uri, auth=(server.user, server.password)) as driver:
            return [record.values() for record in driver.execute_query(text, parameters, database_="neo4j").records]

    def clear() -> None:
        run("MATCH (n) DETACH DELETE n")
        for (name,) in run("SHOW CONSTRAINTS YIELD name"):
            run(f"DROP CONSTRAINT `{name}`")

    clear()
    yield run
    clear()


def test_a_self_signed_certificate_needs_ssc(server: Neo4jServer) -> None:
    for scheme in ("bolt+s", "neo4j+s"):
        with pytest.raises(StoreError, match=r"certificate.*\+ssc") as refused:
            opened(server, scheme)
        assert server.uri.replace("bolt", scheme) in str(refused.value)
        assert "\n" not in str(refused.value)
    for scheme in ("bolt+ssc", "neo4j+ssc"):
        with opened(server, scheme) as graph:
            graph.write_block(make_block(Rollout("t1", "q1", "4")))
            assert len(dump(graph)["Thinking"]) == 1


@pytest.mark.parametrize(
    "constraint",
    [
        "CREATE CONSTRAINT theirs FOR (n:Query) REQUIRE n.text IS UNIQUE",
        "CREATE CONSTRAINT theirs FOR (n:Thinking) REQUIRE n.id IS UNIQUE",
        "CREATE CONSTRAINT theirs FOR ()-[r:SIMILAR_TO]-() REQUIRE r.score IS UNIQUE",
    ],
)
def test_another_projects_constraint(server: Neo4jServer, plainly: Callable[..., object], constraint: str) -> None:
    plainly(constraint)
    with pytest.raises(LocationError, match=r"another project, theirs on .*separate database") as refused:
        opened(server)
    assert server.uri in str(refused.value)


def test_a_constraint_with_a_memstore_name(server: Neo4jServer, plainly: Callable[..., object]) -> None:
    plainly("CREATE CONSTRAINT memstore_query FOR (n:Book) REQUIRE n.isbn IS UNIQUE")
    with pytest.raises(LocationError, match="memstore_query"):
        opened(server)


def test_an_index_in_place_of_a_memstore_constraint(server: Neo4jServer, plainly: Callable[..., object]) -> None:
    plainly("CREATE INDEX theirs FOR (n:Query) ON (n.namespace, n.id)")
    try:
        with pytest.raises(LocationError, match="theirs|index"):
            opened(server)
    finally:
        plainly("DROP INDEX theirs")


def test_another_projects_nodes(server: Neo4jServer, plainly: Callable[..., object]) -> None:
    plainly("UNWIND range(1, 7) AS i CREATE (:Answer {text: 'blowing in the wind'})")
    with pytest.raises(LocationError, match="7 nodes of another project with the label Answer"):
        opened(server)


def test_other_labels_are_ignored(server: Neo4jServer, plainly: Callable[..., list[list[object]]]) -> None:
    plainly("CREATE (:Book {isbn: 1})-[:SIMILAR_TO]->(:Book {isbn: 2})")
    with opened(server) as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4")))
        assert not list(graph.cypher("MATCH (n:Book) RETURN n").rows)
    assert plainly("MATCH (n:Book) RETURN count(n)") == [[2]]


def test_a_newer_schema_is_refused(server: Neo4jServer, plainly: Callable[..., object]) -> None:
    opened(server).close()
    now = dt.datetime.now(dt.UTC)
    plainly("CREATE (:MemstoreMigration {name: '9999_later', number: 9999, applied_at: $now})", now=now)
    with pytest.raises(SchemaError, match=r"schema 9999.*pip install -U memstore"):
        opened(server)


def test_an_interrupted_migration_is_repeated(server: Neo4jServer, plainly: Callable[..., object]) -> None:
    opened(server).close()
    plainly("MATCH (n:MemstoreMigration) DELETE n")
    plainly("DROP CONSTRAINT memstore_batch")
    with opened(server, create=False) as graph:  # type: ignore[arg-type]
        assert graph.schema_version() == 0
        assert graph.migrate() == [migration.name for migration in migrations("neo4j")]
        graph.write_block(make_block(Rollout("t1", "q1", "4")))


def test_a_read_only_server(server: Neo4jServer, plainly: Callable[..., object]) -> None:
    with opened(server) as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4")))
    restart(server, {"server.databases.read_only": "neo4j"})
    try:
        with opened(server, create=False) as graph:  # type: ignore[arg-type]
            assert len(dump(graph)["Thinking"]) == 1
            with pytest.raises(StoreError, match=r"may not write to") as refused:
                graph.write_block(make_block(Rollout("t2", "q1", "4")))
            assert server.uri in str(refused.value)
            assert "\n" not in str(refused.value)
        with pytest.raises(StoreError, match=r"may not write to"):
            opened(server, namespace="another")
    finally:
        restart(server, {})


def restart(server: Neo4jServer, settings: dict[str, str]) -> None:
    server.stop()  # one that was killed must be recovered, and a read-only one cannot be
    server.configure(tls(server.folder / "certificates") | settings)
    server.start()
