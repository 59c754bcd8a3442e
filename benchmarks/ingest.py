"""Time an embedded memory without embedding (vectors are given), and the same work done without memstore.

    python benchmarks/ingest.py [--queries 1000 10000] [--folder DIR]

Each size runs in its own process, so that peak memory is measured for each. Peers run in the same process on a part of
the rows; their times are extrapolated to all rows, which the table marks as "scaled".
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import ROLLOUTS_A_QUERY, Synthetic, make

PEER_SHARE = 2_000


def measure(queries: int, folder: Path) -> dict[str, float]:
    """All figures for one size, in seconds unless the name has another unit."""
    from memstore.memory import Memory
    from memstore.testing.doubles.embedder import GivenEmbedder
    from memstore_gnn.data.hetero import to_hetero

    data = make(folder, queries)
    embedder = GivenEmbedder(data.texts, data.vectors)
    figures: dict[str, float] = {}
    location = folder / f"memory-{queries}"
    with Memory.open(location, create=True, embedder=embedder) as memory:
        summary = memory.ingest([data.path])
        assert summary.added == queries * ROLLOUTS_A_QUERY, summary
        for stage, seconds in summary.seconds.items():
            figures[f"ingest: {stage}"] = seconds
        figures["peak memory after ingest (MB)"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        again = memory.ingest([data.path])
        assert again.added == 0, again
        figures["second ingest"] = again.seconds["total"]
        figures["to HeteroData"] = _best(lambda: to_hetero(memory.snapshot(texts=False)))
        figures["snapshot with texts"] = _best(memory.snapshot)
    with Memory.open(location, embedder=embedder) as memory:
        figures["to HeteroData, just opened"] = _timed(lambda: to_hetero(memory.snapshot(texts=False)))
        figures["recall of the links"] = _recall(memory)
    figures.update(_peers(data, folder, location))
    return figures


def _recall(memory: Any, sample: int = 1000) -> float:
    """Recall of the stored links against the exact top k (fp32, all pairs), on a sample of thinkings."""
    snapshot = memory.snapshot(texts=False)
    x, edges = snapshot.thinking_x, snapshot.edges["thinking_similar"]
    query = np.empty(len(x), dtype=np.int64)
    query[snapshot.edges["generates"].target] = snapshot.edges["generates"].source
    k = memory.link_settings.k
    chosen = np.random.default_rng(0).choice(len(x), min(sample, len(x)), replace=False)
    scores = x[chosen] @ x.T
    scores[query[chosen][:, None] == query[None, :]] = -np.inf
    best = np.argpartition(-scores, k, axis=1)[:, :k]
    starts = np.searchsorted(edges.source, np.arange(len(x) + 1))
    hits = sum(
        len(np.intersect1d(edges.target[starts[row] : starts[row + 1]], found))
        for row, found in zip(chosen, best, strict=True)
    )
    return hits / (len(chosen) * k)


def _peers(data: Synthetic, folder: Path, location: Path) -> dict[str, float]:
    """Time the same work with a MERGE for each row, LadybugDB's PyG bridge and, if it is installed, Milvus Lite."""
    import ladybug

    rows = [json.loads(line) for line in data.path.open()]
    figures: dict[str, float] = {}

    connection = ladybug.Connection(ladybug.Database(str(folder / "rows.lbdb"), buffer_pool_size=2**30))
    for statement in (
        "CREATE NODE TABLE Query(id STRING PRIMARY KEY, text STRING)",
        "CREATE NODE TABLE Thinking(id STRING PRIMARY KEY, text STRING, reward DOUBLE)",
        "CREATE REL TABLE GENERATES(FROM Query TO Thinking)",
    ):
        connection.execute(statement, {})
    share = rows[:PEER_SHARE]
    seconds = _timed(lambda: [_merge_row(connection, number, row) for number, row in enumerate(share)])
    figures[f"peer: a MERGE a row, {len(share)} rows, scaled"] = seconds * len(rows) / len(share)

    limit = min(PEER_SHARE * 4, len(rows))
    seconds = _timed(lambda: _own_bridge(location, limit))
    figures[f"peer: the graph's own PyG bridge, {limit} rows, scaled"] = seconds * len(rows) / limit

    if importlib.util.find_spec("milvus_lite") is None:
        print("milvus-lite is not installed, so its rows are left out: pip install milvus-lite", file=sys.stderr)
    else:
        figures.update(_milvus_lite(data, folder))
    return figures


def _milvus_lite(data: Synthetic, folder: Path) -> dict[str, float]:
    """Time plain pymilvus with Milvus Lite, which kept the vectors of earlier versions."""
    from pymilvus import MilvusClient

    figures: dict[str, float] = {}
    client = MilvusClient(str(folder / "plain.db"))
    client.create_collection(
        "plain", dimension=data.vectors.shape[1], id_type="string", max_length=64, metric_type="COSINE"
    )
    entries = [{"id": f"n{number}", "vector": vector} for number, vector in enumerate(data.vectors)]

    def insert() -> None:
        for start in range(0, len(entries), 5000):
            client.insert("plain", entries[start : start + 5000])

    figures["peer: plain pymilvus insert of the same vectors"] = _timed(insert)
    figures["peer: its flush"] = _timed(lambda: client.flush("plain"))
    queries = min(500, len(entries))
    seconds = _timed(lambda: client.search("plain", list(data.vectors[:queries]), limit=5 + ROLLOUTS_A_QUERY))
    figures[f"peer: links by its search, {queries} searches, scaled"] = seconds * len(entries) / queries
    client.close()
    return figures


def _own_bridge(location: Path, limit: int) -> Any:
    import ladybug

    graph = ladybug.Connection(ladybug.Database(str(location / "graph" / "graph.lbdb"), read_only=True))
    text = f"MATCH (q:Query)-[g:GENERATES]->(t:Thinking) WITH q, g, t LIMIT {limit} RETURN q, g, t"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one warning for each column that the bridge leaves out
        return graph.execute(text, {}).get_as_torch_geometric()


def _merge_row(connection: Any, number: int, row: dict[str, Any]) -> None:
    connection.execute(
        "MERGE (q:Query {id: $q}) ON CREATE SET q.text = $query",
        {"q": row["query_id"], "query": row["query"]},
    )
    connection.execute(
        "MERGE (t:Thinking {id: $t}) ON CREATE SET t.text = $text, t.reward = $reward",
        {"t": f"t{number}", "text": row["thinking"], "reward": row["reward"] or 0.0},
    )
    connection.execute(
        "MATCH (q:Query {id: $q}) MATCH (t:Thinking {id: $t}) MERGE (q)-[:GENERATES]->(t)",
        {"q": row["query_id"], "t": f"t{number}"},
    )


def _timed(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _best(action: Callable[[], Any], runs: int = 3) -> float:
    return min(_timed(action) for _ in range(runs))


def main() -> None:
    """Print a table with one row for each figure, one column for each size, and the growth from first to last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--folder", type=Path, help="parent of the temporary folder")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        columns = []
        for queries in arguments.queries:
            own = Path(folder) / str(queries)
            own.mkdir()
            command = [sys.executable, __file__, "--one", str(queries), "--folder", str(own)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            columns.append(json.loads(done.stdout.splitlines()[-1]))
    sizes = [f"{queries * ROLLOUTS_A_QUERY:,}" for queries in arguments.queries]
    print(f"| seconds | {' | '.join(f'{size} rollouts' for size in sizes)} | growth |")
    print("|---|" + "---|" * (len(sizes) + 1))
    names = [list(column) for column in columns]
    for row in zip(*names, strict=True):
        values = [column[name] for column, name in zip(columns, row, strict=True)]
        growth = values[-1] / values[0] if values[0] else float("nan")
        print(f"| {row[-1]} | " + " | ".join(f"{value:.3g}" for value in values) + f" | x{growth:.1f} |")


if __name__ == "__main__":
    main()
