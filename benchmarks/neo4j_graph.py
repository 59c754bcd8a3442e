"""How long a memory's graph takes on a Neo4j server, beside the embedded store; embedding and vectors are left out.

    NEO4J_HOME=DIR python benchmarks/neo4j_graph.py [--queries 1000 10000] [--folder DIR]

The server is started from NEO4J_HOME in a temporary folder of the same machine, with a heap of 1 GB. Every column is a
process of its own, so that the client's peak memory is its own. The peer writes and reads the same data the plain way
(one MERGE a row, one row an edge) on a share of the rows; its figures are scaled to all of them.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import ROLLOUTS_A_QUERY, make

NEIGHBOURS = 5
BLOCK_ROWS = 8192
PEER_ROLLOUTS, PEER_EDGES = 1_000, 10_000
STORES = ("neo4j", "ladybug", "peer")


def blocks(path: Path) -> list[Any]:
    """A file of rollouts as the blocks that an ingest writes."""
    from memstore.collate import Occurrences, collate, place, settle
    from memstore.record import RecordDefaults, parse_record

    now, seen, known, made = dt.datetime.now(dt.UTC), Occurrences(), {}, []
    rows = [json.loads(line) for line in path.open()]
    for start in range(0, len(rows), BLOCK_ROWS):
        chunk = rows[start : start + BLOCK_ROWS]
        placed = [place(parse_record(row, RecordDefaults()), path.stem, seen) for row in chunk]
        for item in placed:
            known[item.query_id] = settle(item.record, known.get(item.query_id))
        batch = {"id": f"b-{start}", "source": path.name, "state": "done", "rows": len(chunk), "created_at": now}
        made.append(collate(placed, known, batch=batch, created_at=now).block)
    return made


def neighbour_lists(ids: list[str]) -> Any:
    """Every rollout linked to five others, as `memstore link` writes it for a new memory."""
    from memstore.graph.protocol import LinkUpdate
    from memstore_schema.columns import NodeLabel

    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(len(ids)), NEIGHBOURS)
    target = (
        source + rng.integers(1, len(ids) // NEIGHBOURS, len(source)).reshape(-1, NEIGHBOURS).cumsum(1).ravel()
    ) % len(ids)
    scores = rng.random(len(source), dtype=np.float32)
    names = pa.array(ids)
    edges = pa.table({"source": names.take(pa.array(source)), "target": names.take(pa.array(target)), "score": scores})
    return LinkUpdate(NodeLabel.THINKING, ids, edges, ids, "k=5")


def measure(graph: Any, folder: Path, queries: int) -> dict[str, float]:
    """Figures of one of our stores, in seconds unless the name says otherwise."""
    from memstore.snapshot_take import EDGE_NAMES, _columns
    from memstore_schema.columns import NodeLabel

    written = blocks(make(folder, queries).path)
    base = _peak()
    figures = {"write rollouts, answers, structure": _timed(lambda: [graph.write_block(block) for block in written])}
    figures["the same again"] = _timed(lambda: [graph.write_block(block) for block in written])
    ids = graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
    assert len(ids) == queries * ROLLOUTS_A_QUERY
    update = neighbour_lists(ids)
    figures[f"write {NEIGHBOURS} links a rollout"] = _timed(lambda: graph.replace_links(update))
    figures["write them again"] = _timed(lambda: graph.replace_links(update))
    figures["client's peak memory while writing (MB)"] = _peak() - base
    base = _peak()

    def read(texts: bool) -> None:
        for label in NodeLabel:
            graph.nodes(label, _columns(label, texts))
        for edge, source, target in EDGE_NAMES.values():
            graph.edges(edge, source, target)

    figures["read columns and edges"] = _best(lambda: read(False))
    figures["read them with texts"] = _best(lambda: read(True))
    figures["client's peak memory while reading (MB)"] = _peak() - base
    return figures


def measure_peer(driver: Any, folder: Path, queries: int) -> dict[str, float]:
    """The same figures of one MERGE a row and one row an edge, on a share, scaled."""
    rows = [json.loads(line) for line in make(folder, queries).path.open()]
    with driver.session() as session:
        for label in ("Q", "T", "A"):
            session.run(f"CREATE CONSTRAINT IF NOT EXISTS FOR (n:{label}) REQUIRE n.id IS UNIQUE").consume()
        share = rows[:PEER_ROLLOUTS]

        def merge(number: int, row: dict[str, Any]) -> None:
            session.run(
                "MERGE (q:Q {id: $q}) ON CREATE SET q.text = $query MERGE (t:T {id: $t}) ON CREATE SET t.text = $text "
                "MERGE (a:A {id: $a}) MERGE (q)-[:GENERATES]->(t) MERGE (t)-[:LEADS_TO]->(a)",
                q=row["query_id"],
                query=row["query"],
                t=f"t{number}",
                text=row["thinking"],
                a=row["query_id"] + row["answer"],
            ).consume()

        seconds = _timed(lambda: [merge(number, row) for number, row in enumerate(share)])
        figures = {"write rollouts, answers, structure": seconds * len(rows) / len(share)}
        rng = np.random.default_rng(0)
        edges = [[f"t{a}", f"t{b}", 0.5] for a, b in rng.integers(0, len(share), (PEER_EDGES, 2)).tolist()]
        statement = (
            "UNWIND $rows AS r MATCH (a:T {id: r[0]}) MATCH (b:T {id: r[1]}) "
            "MERGE (a)-[s:SIMILAR_TO]->(b) SET s.score = r[2]"
        )
        scale = len(rows) * NEIGHBOURS / len(edges)
        figures[f"write {NEIGHBOURS} links a rollout"] = scale * _timed(
            lambda: session.run(statement, rows=edges).consume()
        )
        text = "MATCH (a:T)-[s:SIMILAR_TO]->(b:T) RETURN a.id, b.id, s.score"
        made = len(session.run(text).values())
        figures["read columns and edges"] = _best(lambda: session.run(text).values()) * len(rows) * NEIGHBOURS / made
    return figures


def one(store: str, queries: int, folder: Path) -> dict[str, float]:
    """The figures of one column."""
    if store == "ladybug":
        from memstore.graph.ladybug import LadybugGraph

        with LadybugGraph.open(folder / f"ladybug-{queries}", create=True) as graph:
            return measure(graph, folder, queries)
    from memstore.testing.neo4j_server import running

    with running(folder / f"{store}-{queries}") as server:
        if store == "neo4j":
            from memstore.graph.neo4j import Neo4jGraph

            with Neo4jGraph.open(server.uri, user=server.user, password=server.password) as graph:
                return measure(graph, folder, queries)
        import neo4j

        with neo4j.GraphDatabase.driver(server.uri, auth=(server.user, server.password)) as driver:
            return measure_peer(driver, folder, queries)


def _timed(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _best(action: Callable[[], Any], runs: int = 3) -> float:
    return min(_timed(action) for _ in range(runs))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print one table: a row a figure, a column a store and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--folder", type=Path, help="work here instead of a temporary folder")
    parser.add_argument("--one", nargs=2, metavar=("STORE", "QUERIES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one[0], int(arguments.one[1]), arguments.folder)))
        return
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for queries in arguments.queries:
            for store in arguments.stores:
                command = [sys.executable, __file__, "--one", store, str(queries), "--folder", folder]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                columns[f"{store}, {queries * ROLLOUTS_A_QUERY:,} rollouts"] = json.loads(done.stdout.splitlines()[-1])
    names = max(columns.values(), key=len)
    print(f"| seconds | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for name in names:
        cells = (f"{column[name]:.3g}" if name in column else "" for column in columns.values())
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
