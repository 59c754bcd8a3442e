"""First load of a Neo4j database: `neo4j-admin` on the files of a snapshot, and writing the same by batches.

    NEO4J_HOME=DIR python benchmarks/neo4j_import.py [--rollouts 1000000] [--batches 100000] [--folder DIR]

The snapshot is synthetic: 10 rollouts a query with 1.3 kB of text, two policies, one query in five labelled, four
answers a query, 5 links a node, no vectors. The steps of the import are those of `memstore export neo4j` (the snapshot
is read and checked, the files are written, neo4j-admin runs) and of the `memstore restore` that follows (the database
is opened for the first time, which creates the constraints; counts and digest are compared). Batches are the writes
of a restore without an import. Both servers start in the folder and have a heap of 2 GB. Processor time includes that
of the server and of neo4j-admin.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from synthetic_memory import sentences

from memstore.graph.neo4j import Neo4jGraph
from memstore.graph.neo4j.admin import run_import
from memstore.graph.protocol import EdgeTable, LinkUpdate
from memstore.graph.verdicts import GROUND_TRUTH
from memstore.pipeline.content import RESTORED, write_nodes
from memstore.pipeline.neo4j_files import ARGUMENTS, check_imported, write_import_files
from memstore.progress import Silent
from memstore.records.ids import dataset_id, run_id
from memstore.records.policies import policies_of
from memstore.snapshots.digest import content_digest
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.snapshots.snapshot import Manifest, Snapshot
from memstore.snapshots.take import TABLES, complete_edges
from memstore.snapshots.upgrade import Content
from memstore.testing.servers.neo4j import Neo4jServer, home
from memstore_schema.columns import NODE_COLUMNS, SCHEMA_VERSION, NodeLabel, node_schema

ROLLOUTS_A_QUERY, ANSWERS_A_QUERY, NEIGHBOURS, LABELLED_EVERY = 10, 4, 5, 5
SENTENCES_A_THINKING, WORDS_A_SENTENCE = 13, 14
HEAP = "2g"
_TICK = os.sysconf("SC_CLK_TCK")


class Step(NamedTuple):
    """Wall and processor seconds of a step."""

    name: str
    wall: float
    cpu: float


def snapshot_of(rollouts: int) -> Snapshot:
    """A synthetic memory with all tables that an ingest and a link fill."""
    rng, queries = np.random.default_rng(0), rollouts // ROLLOUTS_A_QUERY
    query = np.repeat(np.arange(queries), ROLLOUTS_A_QUERY)
    own = rng.integers(0, ANSWERS_A_QUERY, rollouts)
    reached, answer = np.unique(query * ANSWERS_A_QUERY + own, return_inverse=True)
    labelled = query % LABELLED_EVERY == 0
    pool = np.array(sentences(WORDS_A_SENTENCE), dtype=object)
    drawn = rng.integers(0, len(pool), (rollouts, SENTENCES_A_THINKING))
    thinkings = _table(
        NodeLabel.THINKING,
        rollouts,
        id=_ids("t", rollouts),
        text=[" ".join(pool[row]) + f" #{number}." for number, row in enumerate(drawn)],
        dataset=["growth"] * rollouts,
        query_key=[f"growth/{number}" for number in query.tolist()],
        policy=[("early", "late")[number % 2] for number in range(rollouts)],
        run=["benchmark"] * rollouts,
        step=np.arange(rollouts) % 2,
        sample_index=np.arange(rollouts) % ROLLOUTS_A_QUERY // 2,
        reward=pa.array((own == 0).astype(float), mask=~labelled),
        reward_source=pa.array([GROUND_TRUTH] * rollouts, mask=~labelled),
        created_at=pa.repeat(1_767_225_600_123_456, rollouts),
        vector_key=_ids("v", rollouts),
    )
    policies, policy_ids = policies_of(thinkings)
    judged = (reached // ANSWERS_A_QUERY) % LABELLED_EVERY == 0
    verdict = pa.array((reached % ANSWERS_A_QUERY == 0).astype(float), mask=~judged)
    tables = {
        NodeLabel.QUERY: _table(
            NodeLabel.QUERY,
            queries,
            id=_ids("q", queries),
            text=[" ".join(pool[row[:3]]) + f" #{number}?" for number, row in enumerate(drawn[:queries])],
            domain=["math"] * queries,
            vector_key=_ids("w", queries),
        ),
        NodeLabel.THINKING: thinkings,
        NodeLabel.ANSWER: _table(
            NodeLabel.ANSWER,
            len(reached),
            id=_ids("a", len(reached)),
            text=[str(number) for number in reached.tolist()],
            value=[str(number) for number in reached.tolist()],
            verdict=verdict,
            verdict_source=pa.array([GROUND_TRUTH] * len(reached), mask=~judged),
            verdict_at=pa.array(np.full(len(reached), 1_767_225_600_123_456), mask=~judged),
        ),
        NodeLabel.RUN: _table(NodeLabel.RUN, 1, id=[run_id("benchmark")], name=["benchmark"], policy=["early,late"]),
        NodeLabel.REWARD_MODEL: node_schema(NodeLabel.REWARD_MODEL).empty_table(),
        NodeLabel.DATASET: _table(NodeLabel.DATASET, 1, id=[dataset_id("growth")], name=["growth"]),
        NodeLabel.POLICY: policies,
    }
    edges = complete_edges(_edges(rng, query, answer, policies["id"].to_pylist(), policy_ids))
    return _snapshot(tables, edges)


def _edges(
    rng: np.random.Generator, query: np.ndarray, answer: np.ndarray, policies: list[str], policy_ids: pa.Array
) -> dict[str, EdgeTable]:
    rollouts, queries = len(query), int(query[-1]) + 1
    every, none = np.arange(rollouts), pa.table({})
    keys = pa.array([f"growth/{number}" for number in range(queries)])
    names = pa.table({"key": keys, "split": pa.nulls(queries, pa.string())})
    wrote = np.array([policies.index(each) for each in policy_ids.to_pylist()])
    by_policy = np.argsort(wrote, kind="stable")
    return {
        "generates": EdgeTable(query, every, none),
        "in": EdgeTable(np.arange(queries), np.zeros(queries, np.int64), names),
        "leads_to": EdgeTable(every, answer.ravel(), pa.table({"text": [str(number) for number in answer.tolist()]})),
        "produced": EdgeTable(np.zeros(rollouts, np.int64), every, none),
        "wrote": EdgeTable(wrote[by_policy], every[by_policy], none),
        "query_similar": _similar(rng, queries),
        "thinking_similar": _similar(rng, rollouts),
    }


def _similar(rng: np.random.Generator, count: int) -> EdgeTable:
    """`NEIGHBOURS` neighbours of each node, among the nodes around it as in a memory with clusters."""
    source = np.repeat(np.arange(count), NEIGHBOURS)
    steps = rng.integers(1, 100, (count, NEIGHBOURS)).cumsum(axis=1).ravel()
    target = (source + steps) % count
    order = np.lexsort((target, source))
    return EdgeTable(source, target[order], pa.table({"score": rng.random(len(source), dtype=np.float32)}))


def _snapshot(tables: dict[NodeLabel, pa.Table], edges: dict[str, EdgeTable]) -> Snapshot:
    digest = content_digest(tables, edges)
    named = {name: tables[label] for label, name in TABLES.items()}
    counts = (len(tables[label]) for label in (NodeLabel.QUERY, NodeLabel.THINKING))
    x = [(np.zeros((count, 0), np.float32), np.zeros(count, np.bool_)) for count in counts]
    return Snapshot(
        manifest=Manifest(digest, SCHEMA_VERSION, "none", "none", "k=5 floor=0.0", "default", "2026-01-01T00:00:00"),
        edges=edges,
        query_x=x[0][0],
        query_has_x=x[0][1],
        thinking_x=x[1][0],
        thinking_has_x=x[1][1],
        **named,
    )


def _table(label: NodeLabel, count: int, **columns: Any) -> pa.Table:
    """A node table of a snapshot; columns that are not given are null."""
    fields = [field for field in node_schema(label) if field.name not in ("linked", "batch")]
    arrays = []
    for field in fields:
        given = columns.get(field.name)
        arrays.append(pa.nulls(count, field.type) if given is None else pa.array(given).cast(field.type))
    return pa.table(arrays, schema=pa.schema(fields))


def _ids(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number:024x}" for number in range(count)]


class Clock:
    """Times steps, with the processor time of this process, its children and a running server."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.server: Neo4jServer | None = None

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        """Do the work and note its time."""
        wall, cpu = time.perf_counter(), self._cpu()
        result = work()
        self.steps.append(Step(name, time.perf_counter() - wall, self._cpu() - cpu))
        print(f"{name}: {self.steps[-1].wall:.1f} s, {self.steps[-1].cpu:.1f} CPU s", flush=True)
        return result

    def _cpu(self) -> float:
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        seconds = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        if self.server is not None and self.server.pid is not None:
            fields = Path(f"/proc/{self.server.pid}/stat").read_text().rpartition(")")[2].split()
            seconds += (int(fields[11]) + int(fields[12])) / _TICK
        return seconds


def opened(server: Neo4jServer) -> Neo4jGraph:
    """The graph of the server's only namespace; opening it first creates the constraints."""
    return Neo4jGraph.open(server.uri, user=server.user, password=server.password, timeout_s=3600.0)


def bulk(folder: Path, rollouts: int) -> list[Step]:
    """The steps of an import."""
    clock, taken, files = Clock(), folder / f"snapshot-{rollouts}", folder / f"files-{rollouts}"
    with new_server(folder / "bulk") as server:
        snapshot = clock.time("read the snapshot", lambda: load_snapshot(taken))
        clock.time("write the files", lambda: write_import_files(snapshot, files, "default"))
        admin = str(server.home / "bin" / "neo4j-admin")
        clock.time(
            "neo4j-admin",
            lambda: run_import(admin, files, ARGUMENTS, "neo4j", overwrite=False, progress=Silent()),
        )
        clock.server = server
        server.start()
        graph = clock.time("open, with constraints", lambda: opened(server))
        clock.time("check counts and digest", lambda: check_imported(graph, snapshot, "the server"))
        graph.close()
    return clock.steps


def batches(folder: Path, rollouts: int) -> list[Step]:
    """The steps of a restore without an import."""
    clock, snapshot = Clock(), load_snapshot(folder / f"snapshot-{rollouts}")
    nodes = {label: _whole(getattr(snapshot, name), label) for label, name in TABLES.items()}
    content = Content(nodes, snapshot.edges)
    with new_server(folder / "batches") as server:
        clock.server = server
        server.start()
        with opened(server) as graph:
            clock.time("nodes by batches", lambda: write_nodes(graph, content, {"id": RESTORED}, Silent()))
            clock.time("links by batches", lambda: _write_links(graph, snapshot))
            clock.time("check counts and digest", lambda: check_imported(graph, snapshot, "the server"))
    return clock.steps


def _whole(table: pa.Table, label: NodeLabel) -> pa.Table:
    """A node table with the columns of bookkeeping, as a restore writes it."""
    for name in NODE_COLUMNS[label]:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
    return table.select(node_schema(label).names)


def _write_links(graph: Neo4jGraph, snapshot: Snapshot) -> None:
    lists = ((NodeLabel.QUERY, "queries", "query_similar"), (NodeLabel.THINKING, "thinkings", "thinking_similar"))
    for label, name, edges in lists:
        ids, edge = getattr(snapshot, name)["id"], snapshot.edges[edges]
        ends = {"source": ids.take(pa.array(edge.source)), "target": ids.take(pa.array(edge.target))}
        table = pa.table(ends | {"score": edge.properties["score"]})
        everything = ids.to_pylist()
        graph.replace_links(LinkUpdate(label, everything, table, everything, "k=5"))


@contextmanager
def new_server(folder: Path) -> Iterator[Neo4jServer]:
    """A server that was never started; stopped at the end."""
    distribution = home()
    if distribution is None:
        raise SystemExit("NEO4J_HOME is not set; name a folder with a Neo4j distribution")
    server = Neo4jServer(distribution, folder, heap=HEAP)
    os.environ.update({name: server.environment()[name] for name in ("NEO4J_HOME", "NEO4J_CONF", "HEAP_SIZE")})
    try:
        yield server
    finally:
        server.stop()


def print_table(columns: dict[str, list[Step]]) -> None:
    """A row a step, wall and processor seconds."""
    print("\n| | wall s | CPU s |\n|---|--:|--:|")
    for title, steps in columns.items():
        for step in [*steps, Step("**together**", sum(s.wall for s in steps), sum(s.cpu for s in steps))]:
            print(f"| {title}: {step.name} | {step.wall:.1f} | {step.cpu:.1f} |")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=1_000_000, help="rollouts to import")
    parser.add_argument(
        "--batches", type=int, default=100_000, help="rollouts to import and to write by batches; 0: none"
    )
    parser.add_argument("--folder", type=Path, help="work here instead of a temporary folder")
    arguments = parser.parse_args()
    columns: dict[str, list[Step]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        for size in sorted({arguments.batches, arguments.rollouts} - {0}):
            folder = Path(name) / str(size)
            folder.mkdir()
            save_snapshot(snapshot_of(size), folder / f"snapshot-{size}")
            columns[f"{size:,} imported"] = bulk(folder, size)
            if size == arguments.batches:
                columns[f"{size:,} by batches"] = batches(folder, size)
    print_table(columns)


if __name__ == "__main__":
    main()
