"""Time of writing and reading a memory's graph on Neo4j and on the embedded store, without embedding and vectors.

    NEO4J_HOME=DIR python benchmarks/neo4j_graph.py [--queries 1000 10000] [--folder DIR]

The benchmark starts a server from NEO4J_HOME in a temporary folder, with a heap of 2 GB, and warms it up by writing
and reading 16,000 rollouts of another namespace. Each column is measured in a separate process, which gives the
client's peak memory. Vectors are cached, and the read uses memstore's snapshot and loader. The peer writes and reads
the same data naively (one MERGE per row, one row per edge) on a sample of the rows; its figures are scaled to all rows.
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
from dataclasses import replace
from pathlib import Path
from typing import Any

import neo4j
import numpy as np
import pyarrow as pa
from pydantic import SecretStr

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import ROLLOUTS_A_QUERY, Synthetic, make

NEIGHBOURS = 5
BLOCK_ROWS = 8192
PEER_ROLLOUTS, PEER_EDGES = 1_000, 10_000
HEAP = "2g"
WARM_UP_QUERIES = 2_000
STORES = ("neo4j", "ladybug", "peer")


def blocks(path: Path) -> list[Any]:
    """A file of rollouts as an ingest collates it: blocks to write, and the texts to embed."""
    from memstore.records.columns import KnownQuery, Occurrences, assign_ids, merge_query, to_columns
    from memstore.records.record import RecordDefaults, parse_record
    from memstore.types import QueryId

    now, seen = dt.datetime.now(dt.UTC), Occurrences()
    known: dict[QueryId, KnownQuery] = {}
    made = []
    rows = [json.loads(line) for line in path.open()]
    for start in range(0, len(rows), BLOCK_ROWS):
        chunk = rows[start : start + BLOCK_ROWS]
        placed = [assign_ids(parse_record(row, RecordDefaults()), path.stem, seen) for row in chunk]
        for item in placed:
            known[item.query_id] = merge_query(item.record, known.get(item.query_id))
        batch = {"id": f"b-{start}", "source": path.name, "state": "done", "rows": len(chunk), "created_at": now}
        made.append(to_columns(placed, known, batch=batch, created_at=now))
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


def measure(location: Any, data: Synthetic) -> dict[str, float]:
    """Figures of one of our stores, in seconds unless the name says otherwise."""
    from memstore.embedding.cached import embed_cached
    from memstore.memory import Memory
    from memstore.testing.doubles.embedder import GivenEmbedder
    from memstore_gnn.data.hetero import to_hetero
    from memstore_schema.columns import NodeLabel

    with Memory.open(location, create=True, embedder=GivenEmbedder(data.texts, data.vectors)) as memory:
        graph, collated = memory.graph, blocks(data.path)
        for each in collated:
            embed_cached(memory.embedder, memory.cache, list(each.texts.values()))
        written = [each.block for each in collated]
        base = _peak()
        figures = {"write rollouts, answers, structure": _timed(lambda: [graph.write_block(each) for each in written])}
        figures["the same again"] = _timed(lambda: [graph.write_block(each) for each in written])
        ids = graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
        assert len(ids) == len(data.texts) * ROLLOUTS_A_QUERY // (ROLLOUTS_A_QUERY + 1)
        update = neighbour_lists(ids)
        figures[f"write {NEIGHBOURS} links a rollout"] = _timed(lambda: graph.replace_links(update))
        figures["write them again"] = _timed(lambda: graph.replace_links(update))
        figures["client's peak memory while writing (MB)"] = _peak() - base
        base = _peak()
        figures["read into HeteroData"] = _best(lambda: to_hetero(memory.snapshot(texts=False)))
        figures["read with texts"] = _best(memory.snapshot)
        figures["client's peak memory while reading (MB)"] = _peak() - base
    return figures


def measure_peer(driver: Any, data: Synthetic) -> dict[str, float]:
    """The same figures of one MERGE a row and one row an edge, on a share, scaled."""
    rows = [json.loads(line) for line in data.path.open()]
    share, links = rows[:PEER_ROLLOUTS], len(rows) * NEIGHBOURS
    rng = np.random.default_rng(0)
    edges = [[f"t{a}", f"t{b}", 0.5] for a, b in rng.integers(0, len(share), (PEER_EDGES, 2)).tolist()]
    connect = (
        "UNWIND $rows AS r MATCH (a:T {id: r[0]}) MATCH (b:T {id: r[1]}) MERGE (a)-[s:SIMILAR_TO]->(b) "
        "SET s.score = r[2]"
    )
    read = "MATCH (a:T)-[s:SIMILAR_TO]->(b:T) RETURN a.id, b.id, s.score"
    with driver.session() as session:
        for label in ("Q", "T", "A"):
            session.run(f"CREATE CONSTRAINT IF NOT EXISTS FOR (n:{label}) REQUIRE n.id IS UNIQUE").consume()
        merged = _timed(lambda: _merge_rows(session, share))
        connected = _timed(lambda: session.run(connect, rows=edges).consume())
        made = len(session.run(read).values())
        fetched = _best(lambda: session.run(read).values())
    return {
        "write rollouts, answers, structure": merged * len(rows) / len(share),
        f"write {NEIGHBOURS} links a rollout": connected * links / len(edges),
        "read the links alone": fetched * links / made,
    }


def _merge_rows(session: Any, rows: list[dict[str, Any]]) -> None:
    """A statement and a transaction a rollout."""
    for number, row in enumerate(rows):
        session.run(
            "MERGE (q:Q {id: $q}) ON CREATE SET q.text = $question MERGE (t:T {id: $t}) ON CREATE SET t.text = $text "
            "MERGE (a:A {id: $a}) MERGE (q)-[:GENERATES]->(t) MERGE (t)-[:LEADS_TO]->(a)",
            q=row["query_id"],
            question=row["query"],
            t=f"t{number}",
            text=row["thinking"],
            a=row["query_id"] + row["answer"],
        ).consume()


def one(store: str, queries: int, folder: Path) -> dict[str, float]:
    """The figures of one column."""
    from memstore.locations.location import FolderLocation, ServerLocation
    from memstore.testing.servers.neo4j import running
    from memstore.testing.servers.ports import free_port

    data, place = make(folder, queries), folder / f"{store}-{queries}"
    if store == "ladybug":
        return measure(FolderLocation(place, "embedded"), data)
    with running(place, heap=HEAP) as server:
        if store == "neo4j":
            location = ServerLocation(
                name="servers",
                neo4j_uri=server.uri,
                neo4j_user=server.user,
                neo4j_password=SecretStr(server.password),
                neo4j_database="neo4j",
                milvus_uri=f"http://127.0.0.1:{free_port()}",  # nobody there: vectors come from the cache
                milvus_token=None,
                namespace="benchmark",
                folder=place / "local",
            )
            # A server that has just been started runs its first statements uncompiled.
            warm = replace(location, namespace="warm-up", folder=place / "warm-up")
            measure(warm, make(folder, WARM_UP_QUERIES))
            return measure(location, data)
        with neo4j.GraphDatabase.driver(server.uri, auth=(server.user, server.password)) as driver:
            return measure_peer(driver, data)


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
    names = dict.fromkeys(name for column in columns.values() for name in column)
    print(f"| seconds | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for name in names:
        cells = (f"{column[name]:.3g}" if name in column else "" for column in columns.values())
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
