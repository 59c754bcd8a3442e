"""Time writing, opening, look-ups and reads of the vector cache.

python benchmarks/vector_cache.py [--rows 80000] [--dimension 384]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from memstore.embedding.cache import VectorCache
from memstore.embedding.cached import SLICE
from memstore.records.ids import vector_key


def quickest(call: Callable[[], Any], repeat: int = 5) -> float:
    """Seconds of the fastest of `repeat` calls."""
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measure(folder: Path, rows: int, dimension: int) -> dict[str, float]:
    """Seconds by operation."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((rows, dimension)).astype(np.float32)
    keys = [vector_key(str(row)) for row in range(rows)]
    shuffled = [keys[row] for row in rng.permutation(rows)]
    cache = VectorCache.open(folder, dimension)
    began = time.perf_counter()
    for start in range(0, rows, SLICE):
        cache.append(keys[start : start + SLICE], vectors[start : start + SLICE])
    figures = {f"append, {SLICE} at a time": time.perf_counter() - began}
    cache.close()
    began = time.perf_counter()
    cache = VectorCache.open(folder, dimension)
    figures["open, merging the blocks"] = time.perf_counter() - began
    figures["open again"] = quickest(lambda: VectorCache.open(folder, dimension).close())
    figures["look up all keys"] = quickest(lambda: cache.lookup(keys))
    figures["look up all keys, shuffled"] = quickest(lambda: cache.lookup(shuffled))
    at, at_random = cache.lookup(keys), cache.lookup(shuffled)
    figures["read all vectors"] = quickest(lambda: cache.vectors(at))
    figures["read all vectors, shuffled"] = quickest(lambda: cache.vectors(at_random))
    assert np.array_equal(cache.vectors(at), vectors)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--dimension", type=int, default=384)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"{options.rows} x {options.dimension}")
        for name, seconds in measure(Path(folder), options.rows, options.dimension).items():
            print(f"{name:32} {seconds:7.3f} s")


if __name__ == "__main__":
    main()
