"""Limits of a user's query on LadybugDB: time and memory hold for every query, and the graph stays usable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError, QueryTimeout, StoreError
from memstore.graph.ladybug import LadybugGraph, queries
from memstore.graph.ladybug.wal_recovery import WriteAheadLog
from memstore.graph.nesting import MAX_NESTING
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block

LIMIT_S = 1.0
SLACK_S = 20.0
"""For a busy machine, on which the queries below would run for minutes without the limit."""
ENDLESS = "RETURN size(lpad('x', 1000000000, 'ab'))"


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[LadybugGraph]:
    with LadybugGraph.open(tmp_path / "graph", create=True) as graph:
        graph.write_block(make_block(*(Rollout(f"t{i}", f"q{i % 7}", "4") for i in range(50))))
        yield graph


@pytest.mark.parametrize(
    "query",
    [
        "UNWIND range(1, 1000000000) AS x RETURN count(x)",  # one list of 8 GB
        "RETURN size(range(1, 1000000000))",  # a list that is not unwound
        "RETURN repeat('a', 2000000000)",  # LadybugDB crashes when the allocation fails
        "RETURN lpad('x', 2000000000, 'ab')",  # one row that computes for minutes
        "RETURN rpad('x', 2000000000, 'ab')",
        "UNWIND range(1, 60000) AS a UNWIND range(1, 60000) AS b WITH a * b % 7 AS c WHERE c = 9 RETURN count(c)",
        "UNWIND range(1, 30000000) AS x RETURN collect(CAST(x AS STRING))",  # a value that outgrows the limit
        "MATCH (a)-[*1..28]-(b) RETURN count(*)",  # paths without end
        "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b RETURN DISTINCT a * b",
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_query_past_a_limit_is_ended(graph: LadybugGraph, query: str, write: bool) -> None:
    before, started = dump(graph), time.monotonic()
    with pytest.raises(StoreError) as ended:  # QueryTimeout is one
        list(graph.cypher(query, timeout_s=LIMIT_S, write=write).rows)
    assert time.monotonic() - started < SLACK_S
    assert "\n" not in str(ended.value)
    assert "match less" in str(ended.value)
    assert list(graph.cypher("MATCH (t:Thinking) RETURN count(t) AS n", timeout_s=60).rows) == [(50,)]
    assert dump(graph) == before


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("RETURN repeat('ab', 3) AS x", 1),
        ("RETURN size(range(1, 1000000)) AS x", 1),
        ("UNWIND range(1, 200000) AS x RETURN x", 200_000),  # many blocks
        ("RETURN repeat('a', 5000000) AS x", 1),  # one row larger than a block
        ("UNWIND range(1, 9) AS x RETURN repeat('a', 400000) AS text", 9),
    ],
)
def test_a_large_result_within_the_limits_is_complete(graph: LadybugGraph, query: str, rows: int) -> None:
    assert len(list(graph.cypher(query, timeout_s=120).rows)) == rows


def test_a_query_past_the_memory_limit_is_ended_before_its_time(graph: LadybugGraph) -> None:
    with pytest.raises(StoreError, match="memory") as ended:
        list(graph.cypher("RETURN size(range(1, 300000000))", timeout_s=120).rows)  # a list of 2.4 GB
    assert not isinstance(ended.value, QueryTimeout)
    assert list(graph.cypher("MATCH (t:Thinking) RETURN count(t) AS n", timeout_s=60).rows) == [(50,)]


def test_a_write_that_is_ended_leaves_nothing(graph: LadybugGraph) -> None:
    before = dump(graph)
    with pytest.raises(StoreError):
        graph.cypher(
            "UNWIND range(1, 50000000) AS x CREATE (:Run {id: CAST(x AS STRING)})", write=True, timeout_s=LIMIT_S
        )
    assert dump(graph) == before
    graph.cypher("CREATE (:Run {id: 'r'})", write=True, timeout_s=60)
    assert list(graph.cypher("MATCH (r:Run) WHERE r.id = 'r' RETURN r.id").rows) == [("r",)]


def test_brackets_at_the_limit_are_parsed_in_time(graph: LadybugGraph) -> None:
    text = "RETURN " + "{a: " * MAX_NESTING + "1" + "}" * MAX_NESTING
    assert len(list(graph.cypher(text, timeout_s=60).rows)) == 1


def test_a_timeout_counts_from_the_start_of_the_query(graph: LadybugGraph) -> None:
    with pytest.raises(QueryTimeout, match=r"0\.3 s"):
        graph.cypher(ENDLESS, timeout_s=0.3)


def test_other_threads_read_while_a_query_runs(graph: LadybugGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[BaseException] = []
    asked, ask = threading.Event(), queries.QueryProcesses._ask

    def signalled(processes: queries.QueryProcesses, *arguments: Any) -> queries.Block:
        asked.set()
        return ask(processes, *arguments)

    monkeypatch.setattr(queries.QueryProcesses, "_ask", signalled)

    def endless() -> None:
        try:
            graph.cypher(ENDLESS, timeout_s=600)  # it ends with the graph, not by its limit
        except StoreError as error:
            errors.append(error)

    thread = threading.Thread(target=endless)
    thread.start()
    assert asked.wait(60)
    assert len(graph.nodes("Thinking", ["id"])) == 50  # type: ignore[arg-type]
    assert thread.is_alive()
    graph.close()  # ends the query
    thread.join(SLACK_S)
    assert not thread.is_alive()
    assert len(errors) == 1


def test_processes_are_reused_and_end_with_the_graph(graph: LadybugGraph) -> None:
    list(graph.cypher("RETURN 1").rows)
    (worker,) = graph._queries._idle
    pid = worker.pid
    list(graph.cypher("RETURN 2").rows)
    assert [worker.pid for worker in graph._queries._idle] == [pid]
    graph.close()
    assert worker.pid is None


def test_a_process_that_somebody_killed_is_replaced(graph: LadybugGraph) -> None:
    list(graph.cypher("RETURN 1").rows)
    (worker,) = graph._queries._idle
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    assert list(graph.cypher("RETURN 2").rows) == [(2,)]


def test_results_that_are_open_at_once_and_dropped(graph: LadybugGraph) -> None:
    many = "UNWIND range(1, 5000) AS x RETURN x"
    first, second = graph.cypher(many).rows, graph.cypher(many).rows
    assert [next(first), next(second), next(first)] == [(1,), (1,), (2,)]
    del first
    assert len(list(second)) == 4999
    assert not graph._queries._busy
    assert len(graph._queries._idle) <= queries.IDLE_PROCESSES


def test_a_parameter_that_cannot_be_sent_is_refused(graph: LadybugGraph) -> None:
    with pytest.raises(InputError, match="parameter"):
        graph.cypher("RETURN $x AS x", {"x": lambda: 0})


def test_files_are_not_changed_by_a_query(graph: LadybugGraph, tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {entry.name: entry.read_bytes() for entry in (tmp_path / "graph").iterdir()}

    before = content()
    list(graph.cypher("MATCH (t:Thinking) RETURN t").rows)
    assert content() == before


@pytest.mark.parametrize("write", [False, True])
def test_a_long_log_is_checkpointed_before_a_query_and_a_short_one_is_not(
    graph: LadybugGraph, monkeypatch: pytest.MonkeyPatch, write: bool
) -> None:
    """The process of the query would replay it: 0.45 s of CPU time for 4 MiB."""
    log = graph._database._log
    assert log.bytes() > 1_000
    count = "MATCH (t:Thinking) RETURN count(t)"
    lengths: list[int] = []
    monkeypatch.setattr("memstore.graph.ladybug.store.QueryProcesses.run", _noting(lengths, log))
    for limit in (2**20, 1_000):
        monkeypatch.setattr("memstore.graph.ladybug.database.LONG_LOG_BYTES", limit)
        assert list(graph.cypher(count, write=write).rows) == [(50,)]
    assert lengths[0] > 1_000
    assert lengths[1] == 0


def test_a_long_log_is_checkpointed_before_the_cache_is_dropped(
    graph: LadybugGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropping the cache opens the database again, which would replay the log: 0.8 s of CPU time for 14 MiB."""
    log = graph._database._log
    graph.drop_cache()
    assert log.bytes() > 1_000
    monkeypatch.setattr("memstore.graph.ladybug.database.LONG_LOG_BYTES", 1_000)
    graph.drop_cache()
    assert log.bytes() == 0
    assert list(graph.cypher("MATCH (t:Thinking) RETURN count(t)").rows) == [(50,)]


def _noting(lengths: list[int], log: WriteAheadLog) -> Callable[..., Any]:
    run = queries.QueryProcesses.run

    def noting(*arguments: Any, **options: Any) -> Any:
        lengths.append(log.bytes())
        return run(*arguments, **options)

    return noting
