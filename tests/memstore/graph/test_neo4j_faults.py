"""Writes survive a server that is killed, disconnected, full, slow or stopped by its administrator."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from memstore.errors import StoreError, StoreFullError
from memstore.graph.neo4j import Neo4jGraph
from memstore.graph.protocol import GraphStore
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block
from memstore.testing.conformance.graph_writes import operations
from memstore.testing.doubles.graph import MemoryGraph
from memstore.testing.servers.neo4j import Neo4jServer, home
from memstore.testing.servers.tcp_proxy import TcpProxy

COUNT = 60
"""Operations of the writer during faults."""
PATIENCE_S = 250.0
"""Time limit for operations that take seconds on an idle machine."""
LOCK = "MATCH (n:MemstoreNamespace {namespace: $name}) SET n.writes = n.writes"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Neo4jServer]:
    """A server that the tests may kill."""
    distribution = home()
    if distribution is None:
        request.getfixturevalue("neo4j_login")  # skips or fails, with the reason, unless another server is named
        pytest.skip("these tests kill the server; set NEO4J_HOME to a distribution")
    with Neo4jServer(distribution, tmp_path_factory.mktemp("faults"), heap="512m") as server:
        yield server


def opened(server: Neo4jServer, namespace: str, **options: float) -> Neo4jGraph:
    return Neo4jGraph.open(server.uri, user=server.user, password=server.password, namespace=namespace, **options)


def through(uri: str, server: Neo4jServer, namespace: str) -> Neo4jGraph:
    return Neo4jGraph.open(uri, user=server.user, password=server.password, namespace=namespace, retry_s=PATIENCE_S)


def undisturbed() -> dict[str, object]:
    """The graph after all operations on an empty one."""
    graph = MemoryGraph()
    for operation in operations(COUNT):
        operation(graph)
    return dump(graph)


def test_a_killed_server_under_a_writer(server: Neo4jServer) -> None:
    """The driver reconnects; acknowledged writes are in the graph exactly once."""

    def kill() -> None:
        server.kill()
        server.start()

    with opened(server, "killed", retry_s=PATIENCE_S) as graph:
        assert disturbed(graph, kill, times=1) == undisturbed()


def test_a_lost_connection_under_a_writer(server: Neo4jServer) -> None:
    """A commit may have succeeded without a response; repeating it changes nothing."""

    def cut() -> None:
        proxy.cut()
        time.sleep(0.5)
        proxy.restore()

    with TcpProxy(server.port) as proxy:
        uri = f"bolt://127.0.0.1:{proxy.port}"
        with through(uri, server, "cut") as graph:
            assert disturbed(graph, cut, times=4) == undisturbed()


def test_a_connection_lost_during_a_commit(server: Neo4jServer) -> None:
    """If the outcome of a commit is unknown, memstore's writes are retried and a user's query is not."""
    commit = b"\x00\x02\xb0\x12\x00\x00"  # the whole message, as the protocol frames it
    with TcpProxy(server.port) as proxy:
        uri = f"bolt://127.0.0.1:{proxy.port}"
        with through(uri, server, "commit") as graph:
            for operation in operations(COUNT):
                proxy.break_after(commit)
                operation(graph)
            proxy.break_after(commit)  # of one that reads
            assert dump(graph) == undisturbed()

            proxy.break_after(commit)
            with pytest.raises(StoreError, match="may or may not have been kept"):
                graph.cypher("CREATE (:Batch {id: 'made once'})", write=True)
            graph.write_meta({"after": "it"})  # waits for the namespace's lock, and so for the commit
            made = graph.cypher("MATCH (b:Batch {id: 'made once'}) RETURN count(*)")
            assert list(made.rows) == [(1,)]


WRITER = """
import sys
from memstore.errors import StoreError
from memstore.graph.neo4j import Neo4jGraph

uri, user, password = sys.argv[1:]
with Neo4jGraph.open(uri, user=user, password=password, namespace="printed", retry_s=1) as graph:
    print("open", flush=True)
    sys.stdin.readline()
    try:
        graph.write_meta({"a": "b"})
    except StoreError as error:
        print(error, file=sys.stderr)
"""


def test_a_lost_connection_prints_only_the_error_sentence(server: Neo4jServer) -> None:
    """In a process without logging configuration, such as a notebook."""
    with TcpProxy(server.port) as proxy:
        arguments = [f"bolt://127.0.0.1:{proxy.port}", server.user, server.password]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", WRITER, *arguments], text=True, **pipes) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            proxy.cut()
            _, said = process.communicate("go on\n")
    assert said.startswith("no Neo4j server responds at bolt://127.0.0.1:")
    assert said.count("\n") == 1, said


def disturbed(graph: Neo4jGraph, disturb: Callable[[], None], *, times: int) -> dict[str, object]:
    """The graph after operations that are disturbed at random instants."""
    chance = random.Random(7)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [operation(graph) for operation in operations(COUNT)])
        for _ in range(times):
            time.sleep(0.2 + chance.random())
            disturb()
        writing.result()
    return dump(graph)


def test_a_server_that_stays_down_gives_one_sentence(server: Neo4jServer) -> None:
    with opened(server, "away", retry_s=1) as graph:
        server.kill()
        try:
            for use in (lambda: graph.write_meta({"a": "b"}), lambda: dump(graph), lambda: graph.cypher("RETURN 1")):
                with pytest.raises(StoreError, match=f"no Neo4j server responds at {server.uri}") as refused:
                    use()
                assert "\n" not in str(refused.value)
        finally:
            server.start()
        opened(server, "away", retry_s=PATIENCE_S).close()  # the server is back
        graph.write_block(make_block(Rollout("t1", "q1", "4")))
        assert len(dump(graph)["Thinking"]) == 1


def test_no_space_left(server: Neo4jServer) -> None:
    """The call is undone with an error; after a restart with free space the same calls succeed."""
    server.stop()
    largest = max(file.stat().st_size for file in (server.folder / "data").rglob("*") if file.is_file())
    server.start(file_bytes=largest + 2_000_000)
    made = list(operations(COUNT))
    try:
        with opened(server, "full", retry_s=1) as graph:
            done, error = until_full(graph, made)
        assert server.uri in str(error)
        assert 0 < done < COUNT
    finally:
        server.kill()
        server.start()
    with opened(server, "full") as graph:
        for operation in made[done:]:
            operation(graph)
        assert dump(graph) == undisturbed()


def until_full(graph: Neo4jGraph, made: list[Callable[[GraphStore], object]]) -> tuple[int, StoreFullError]:
    """Number of successful operations, and the error of the next one."""
    for done, operation in enumerate(made):
        try:
            operation(graph)
        except StoreFullError as error:
            return done, error
    raise AssertionError("there was space for all of it")


def held(
    server: Neo4jServer, namespace: str, use: Callable[[GraphStore], object], meanwhile: Callable[..., None]
) -> None:
    """Use a graph while another writer holds its lock."""
    with opened(server, namespace) as graph, graph._connection._driver.session() as session:
        other = session.begin_transaction()
        other.run(LOCK, name=namespace).consume()
        helper = threading.Thread(target=meanwhile, args=(graph,))
        helper.start()
        try:
            use(graph)
        finally:
            helper.join()
            other.close()


def test_a_transaction_ended_by_the_administrator(server: Neo4jServer) -> None:
    def end(graph: Neo4jGraph) -> None:
        give_up = time.monotonic() + PATIENCE_S
        with graph._connection._driver.session() as session:
            while time.monotonic() < give_up:
                shown = "SHOW TRANSACTIONS YIELD transactionId, metaData, status WHERE metaData.app = 'memstore'"
                waiting = [row["transactionId"] for row in session.run(shown) if "Blocked" in row["status"]]
                if waiting:
                    session.run("TERMINATE TRANSACTIONS $ids", ids=waiting).consume()
                    return
                time.sleep(0.1)

    with pytest.raises(StoreError, match="administrator") as refused:
        held(server, "ended", lambda graph: graph.write_meta({"a": "b"}), end)
    assert server.uri in str(refused.value)
    with opened(server, "ended") as graph:
        assert graph.read_meta() == {}


def test_a_writer_that_waits_too_long_gives_up(server: Neo4jServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(server, "slow") as graph, graph._connection._driver.session() as session:
        other = session.begin_transaction()
        other.run(LOCK, name="slow").consume()
        with monkeypatch.context() as limited:
            limited.setattr(graph._connection, "_timeout_s", 1.0)  # a busy server might not be in time for opening it
            with pytest.raises(StoreError, match="its time limit"):
                graph.write_meta({"a": "b"})
        other.close()
        graph.write_meta({"a": "c"})
        assert graph.read_meta() == {"a": "c"}


def test_readers_do_not_wait_for_a_writer(server: Neo4jServer) -> None:
    def read(graph: GraphStore) -> None:
        assert dump(graph)["Thinking"] == []
        assert list(graph.cypher("MATCH (n:Thinking) RETURN count(n)").rows) == [(0,)]

    held(server, "reading", read, lambda graph: None)
