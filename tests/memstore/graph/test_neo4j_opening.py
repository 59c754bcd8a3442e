"""Errors of opening a graph on a server: one sentence each, without a password."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import neo4j
import pytest
from pydantic import SecretStr

from memstore.errors import InputError, LocationError, MemstoreError, SchemaError, StoreError
from memstore.graph.neo4j import Neo4jGraph
from memstore.graph.neo4j.scope import PARAMETER, scoped
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block
from memstore.testing.servers.neo4j import Login
from memstore.testing.servers.ports import free_port
from memstore_schema import migrations
from memstore_schema.columns import SCHEMA_VERSION, NodeLabel

SECRET = "hunter2-do-not-print"


def refused(caplog: pytest.LogCaptureFixture, uri: str, password: str = SECRET, **options: object) -> MemstoreError:
    """The error of opening: one sentence with the location. Neither it nor the log contains the password."""
    with caplog.at_level(logging.DEBUG), pytest.raises(MemstoreError) as caught:
        Neo4jGraph.open(uri, user="neo4j", password=password, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert password not in repr(chain)
        chain = chain.__cause__ or chain.__context__
    assert password not in caplog.text
    assert "\n" not in text
    return caught.value


def test_a_wrong_password(neo4j_login: Login, caplog: pytest.LogCaptureFixture) -> None:
    error = refused(caplog, neo4j_login.uri)
    assert type(error) is StoreError
    assert neo4j_login.uri in str(error)
    assert "password" in str(error)


def test_the_right_password_is_in_no_message_or_log(neo4j_login: Login, caplog: pytest.LogCaptureFixture) -> None:
    error = refused(caplog, neo4j_login.uri, neo4j_login.password, database="nowhere")
    assert type(error) is LocationError
    assert "database nowhere" in str(error)
    with caplog.at_level(logging.DEBUG):
        graph = Neo4jGraph.open(neo4j_login.uri, user=neo4j_login.user, password=SecretStr(neo4j_login.password))
        graph.close()
    assert "bolt" in caplog.text
    assert neo4j_login.password not in caplog.text + repr(vars(graph)) + str(graph)


def test_no_server_at_the_address(caplog: pytest.LogCaptureFixture) -> None:
    uri = f"bolt://127.0.0.1:{free_port()}"
    error = refused(caplog, uri)
    assert type(error) is StoreError
    assert f"no Neo4j server responds at {uri} (database neo4j, namespace default)" in str(error)


@pytest.mark.parametrize(
    "uri",
    ["http://localhost:7474", "localhost:7687", "bolt://", "bolt://host:port", "", "neo4j+x://host"],
)
def test_an_invalid_address(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    assert type(refused(caplog, uri)) is InputError


def test_a_password_in_the_address_is_refused_and_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    error = refused(caplog, f"bolt://neo4j:{SECRET}@somewhere:7687")
    assert type(error) is InputError
    assert "somewhere" in str(error)


@pytest.mark.parametrize("namespace", ["", "a b", "ü", "x" * 200, "-x", "a/b"])
def test_an_invalid_namespace(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    assert type(refused(caplog, "bolt://127.0.0.1:1", namespace=namespace)) is InputError


@contextmanager
def pretender(version: bytes, agent: str = "") -> Iterator[str]:
    """Address of a server that accepts one protocol version and reports a given product name."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(20)
                connection.sendall(version)
                body = b"\xb1\x70\xa1\x86server" + bytes([0xD0, len(agent)]) + agent.encode()
                while connection.recv(65536):
                    for _ in range(2):  # HELLO and what follows it
                        connection.sendall(struct.pack(">H", len(body)) + body + b"\x00\x00")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"bolt://127.0.0.1:{listener.getsockname()[1]}"
    thread.join(200)


def test_a_server_of_an_older_major_version(caplog: pytest.LogCaptureFixture) -> None:
    with pretender(bytes([0, 0, 4, 4]), "Neo4j/4.4.12") as uri:
        error = refused(caplog, uri)
    assert type(error) is SchemaError
    assert uri in str(error)
    assert "upgrade the server" in str(error)


def test_a_server_without_a_common_protocol(caplog: pytest.LogCaptureFixture) -> None:
    with pretender(bytes(4)) as uri:
        error = refused(caplog, uri)
    assert type(error) is SchemaError
    assert "upgrade the server" in str(error)


def test_a_server_that_is_not_neo4j(caplog: pytest.LogCaptureFixture) -> None:
    with pretender(b"HTTP") as uri:
        error = refused(caplog, uri)
    assert isinstance(error, (StoreError, SchemaError))
    assert uri in str(error)


@pytest.mark.parametrize("scheme", ["bolt", "neo4j"])
def test_both_connection_schemes(neo4j_login: Login, scheme: str) -> None:
    uri = neo4j_login.uri.replace("bolt", scheme)
    with Neo4jGraph.open(uri, user=neo4j_login.user, password=neo4j_login.password, namespace="test-ways") as graph:
        assert graph.schema_version() == SCHEMA_VERSION
        graph.cypher("MATCH (n) DETACH DELETE n", write=True)


@pytest.mark.parametrize("scheme", ["bolt+s", "neo4j+s", "bolt+ssc"])
def test_tls_to_a_server_without(neo4j_login: Login, scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    if "+" in neo4j_login.uri:
        pytest.skip("the server of MEMSTORE_TEST_NEO4J_URI has TLS")
    error = refused(caplog, neo4j_login.uri.replace("bolt", scheme))
    assert type(error) is StoreError
    assert scheme in str(error)


def test_a_closed_store_raises_an_error(neo4j_open: partial[Neo4jGraph]) -> None:
    graph = neo4j_open()
    rows = graph.cypher("UNWIND range(1, 100000) AS i RETURN i").rows
    next(rows)
    graph.close()
    graph.close()
    for use in (lambda: dump(graph), lambda: graph.write_meta({"a": "b"}), lambda: graph.cypher("RETURN 1")):
        with pytest.raises(StoreError, match="closed"):
            use()
    with pytest.raises(StoreError, match="no longer be read"):
        list(rows)


def test_dropped_rows_return_their_connection(neo4j_open: partial[Neo4jGraph]) -> None:
    with neo4j_open() as graph:
        for _ in range(120):  # the pool has 100
            next(graph.cypher("UNWIND range(1, 5000) AS i RETURN i").rows)
            graph.cypher("RETURN 1 AS never_looked_at")
        assert list(graph.cypher("RETURN 2 AS two").rows) == [(2,)]


def test_every_key_has_its_constraint(neo4j_open: partial[Neo4jGraph]) -> None:
    with neo4j_open() as graph:
        rows = graph._connection.schema("SHOW CONSTRAINTS YIELD type, labelsOrTypes, properties")
        assert graph.migrate() == []
    found = {(kind, *labels): properties for kind, labels, properties in rows}
    assert all(found["UNIQUENESS", label] == ["namespace", "id"] for label in NodeLabel)


def test_migrations_have_the_numbers_of_the_embedded_store() -> None:
    numbers = [[migration.number for migration in migrations.migrations(backend)] for backend in ("neo4j", "ladybug")]
    assert numbers[0] == numbers[1] == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (t:Thinking) WHERE t.id = $id RETURN t",
        "MATCH (q:Query)-[:GENERATES]->(t:Thinking) WHERE t.id = $id RETURN q",
        "MATCH (t:Thinking {id: $id})-[:LEADS_TO]->(a:Answer) RETURN a",
    ],
)
def test_an_id_is_found_through_the_index(neo4j_open: partial[Neo4jGraph], query: str) -> None:
    with neo4j_open() as graph:
        graph.write_block(make_block(*(Rollout(f"t{i}", f"q{i % 50}", "4") for i in range(500))))
        with graph._connection.session(neo4j.READ_ACCESS) as session:
            # the server is shared: without this it may plan for what another test's namespace held a moment ago
            session.run("CALL db.prepareForReplanning()").consume()
            plan = session.run("EXPLAIN " + scoped(query), {"id": "t1", PARAMETER: "x"}).consume().plan
    assert "NodeUniqueIndexSeek" in str(plan)
    assert "Scan" not in str(plan)
