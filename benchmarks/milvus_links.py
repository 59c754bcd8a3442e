"""Link throughput of a Milvus server and recall of its neighbours.

    python benchmarks/milvus_links.py [--rows 8000 80000] [--new 1000]

The server is that of MEMSTORE_TEST_MILVUS_URI, else one is started (see `memstore.testing.servers.milvus`). Rows are
clustered unit vectors (384-d) in groups of 8, k = 5. Recall is by score on a sample of 200: the share of the k nearest
that a list holds. Of the incremental call, recall is that of the old nodes' gains: of the new neighbours that belong
in old lists, the share that came in; `reach` is how many hits a new node is asked for at most.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from memstore.testing.servers.milvus import available
from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn import LinkSettings, Neighbours, link_all, link_new, store_search
from memstore.vectors.knn.store_search import StoreSearch, measured_recall
from memstore.vectors.milvus import MilvusVectors

sys.path.insert(0, str(Path(__file__).parent))
from synthetic import DIMENSION, ROLLOUTS_A_QUERY, clustered

ROWS_A_CLUSTER = 400
HOW = LinkSettings()
REACHES = (100, 400, 1_600)


def measure(uri: str, rows: int, new: int) -> None:
    """Measure one size and print the results."""
    rng = np.random.default_rng(0)
    vectors = clustered(rows, rows // ROWS_A_CLUSTER + 1, rng)
    group = rng.permutation(np.arange(rows) // ROLLOUTS_A_QUERY)
    names = [f"t-{number:024x}" for number in range(rows)]
    with MilvusVectors.open(uri, fingerprint=f"bench_{rows}", dimension=DIMENSION, namespace="bench") as store:
        started = time.perf_counter()
        store.upsert("thinking", names, vectors)
        written = time.perf_counter()
        store.flush()
        flushed = time.perf_counter()
        print(f"{rows:,} rows: upsert {written - started:.1f} s, flush and index {flushed - written:.1f} s", flush=True)
        nearest = searching(store, names)
        started = time.perf_counter()
        whole = link_all(vectors, group, HOW, store=nearest)
        took = time.perf_counter() - started
        print(f"  link all by the server {took:.1f} s, recall {measured_recall(vectors, group, whole, HOW):.4f}")
        started = time.perf_counter()
        exact = link_all(vectors, group, HOW)
        print(f"  link all on the arrays {time.perf_counter() - started:.1f} s, exact", flush=True)
        for width in store_search.WIDTHS:
            started = time.perf_counter()
            found = nearest(vectors[:2000], HOW.k + 10, width)
            took = time.perf_counter() - started
            print(f"  width {width}: {1000 * took / 2000:.2f} ms a search, recall {recall_of(found, vectors):.4f}")
        is_new = np.zeros(rows, dtype=bool)
        is_new[np.isin(group, rng.choice(group.max(), new // ROLLOUTS_A_QUERY, replace=False))] = True
        incremental(vectors, group, is_new, exact, nearest)


def searching(store: MilvusVectors, names: list[str]) -> StoreSearch:
    """The vector store in the interface that linking uses."""
    place = {name: position for position, name in enumerate(names)}

    def nearest(vectors: FloatMatrix, hits: int, width: int) -> IntVector:
        ids = store.search("thinking", vectors, hits, width=width).ids
        return np.array([place.get(name, -1) for name in ids.ravel().tolist()], np.int64).reshape(ids.shape)

    return nearest


def recall_of(found: IntVector, vectors: FloatMatrix) -> float:
    """Recall of the exact nearest neighbours for the first rows."""
    count, hits = found.shape
    best = -np.partition(-(vectors[:count] @ vectors.T), hits - 1, axis=1)[:, hits - 1]
    scores = np.einsum("nd,nkd->nk", vectors[:count], vectors[found])
    return float((scores >= best[:, None] - 1e-5).mean())


def incremental(
    vectors: FloatMatrix, group: IntVector, is_new: BoolVector, exact: Neighbours, nearest: StoreSearch
) -> None:
    """Link the new rows into the exact lists of the old rows."""
    place = np.flatnonzero(~is_new)
    among_old = link_all(vectors[~is_new], group[~is_new], HOW)
    old = Neighbours.none(len(vectors), HOW.k)
    old.index[~is_new] = np.where(among_old.index >= 0, place[among_old.index], -1)
    old.score[~is_new] = among_old.score
    gains = is_new[exact.index] & (exact.index >= 0) & ~is_new[:, None]
    for reach in REACHES:
        store_search.FARTHEST = reach
        started = time.perf_counter()
        lists, _ = link_new(vectors, group, is_new, old, HOW, store=nearest)
        took = time.perf_counter() - started
        node, rank = np.nonzero(gains)
        came = (lists.index[node] == exact.index[node, rank][:, None]).any(axis=1)
        print(
            f"  {is_new.sum():,} new, reach {reach}: {took:.1f} s, gains {came.mean():.4f} of {len(came):,}", flush=True
        )


def main() -> None:
    """Measure each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[8_000, 80_000])
    parser.add_argument("--new", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, available(Path(folder)) as uri:
        if uri is None:
            sys.exit("no Milvus server: install the dev extra on Linux, or set MEMSTORE_TEST_MILVUS_URI")
        for rows in options.rows:
            measure(uri, rows, options.new)


if __name__ == "__main__":
    main()
