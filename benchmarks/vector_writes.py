"""Cost of the embedded vector store: write, read back and search, beside the same on plain arrays.

    python benchmarks/vector_writes.py [--rows 80000] [--dimension 384] [--queries 800]

Plain is `numpy.save`, `numpy.load` and `memstore.vectors.knn.nearest`. CPU seconds count all threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memstore.types import FloatMatrix
from memstore.vectors.embedded import EmbeddedVectors
from memstore.vectors.knn import nearest

BLOCK, HITS = 8_192, 16


class Line(NamedTuple):
    """One line of the table, in seconds."""

    what: str
    wall: float
    cpu: float


def measure(vectors: FloatMatrix, queries: FloatMatrix) -> Iterator[Line]:
    """Write, read and search the vectors in the store and as an array."""
    ids = [f"t-{row:024x}" for row in range(len(vectors))]

    def write(store: EmbeddedVectors) -> None:
        for start in range(0, len(ids), BLOCK):
            store.upsert("thinking", ids[start : start + BLOCK], vectors[start : start + BLOCK])
        store.flush()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plain.npy"
        with EmbeddedVectors.open(
            Path(folder) / "vectors", fingerprint="benchmark", dimension=vectors.shape[1]
        ) as store:
            yield _timed("store: write, flushed", lambda: write(store))
            yield _timed("store: fetch all", lambda: store.fetch(ids))
            yield _timed(f"store: search {len(queries)}", lambda: store.search("thinking", queries, HITS))
        yield _timed("plain: save", lambda: np.save(path, vectors))
        yield _timed("plain: load", lambda: np.load(path))
        yield _timed(f"plain: search {len(queries)}", lambda: nearest(queries, vectors, HITS))


def _timed(what: str, work: Callable[[], object]) -> Line:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Line(what, time.perf_counter() - wall, time.process_time() - cpu)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=800)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((arguments.rows + arguments.queries, arguments.dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    print("| | wall s | CPU s |\n|---|--:|--:|")
    for line in measure(vectors[: arguments.rows], vectors[arguments.rows :]):
        print(f"| {line.what} | {line.wall:.2f} | {line.cpu:.2f} |", flush=True)


if __name__ == "__main__":
    main()
