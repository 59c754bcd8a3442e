"""Concurrent use of the vector cache: readers see every vector as it was written while other threads append."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from memstore.embedding.cache import VectorCache
from memstore.records.ids import vector_key

DIMENSION, BLOCKS, ROWS = 4, 60, 40


def block(number: int) -> tuple[list[str], np.ndarray]:
    """Keys and vectors of one block; each vector encodes its block and row number."""
    keys = [vector_key(f"{number} {row}") for row in range(ROWS)]
    vectors = np.array([[1.0, 0.0, number, row] for row in range(ROWS)], np.float32)
    return keys, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_readers_beside_writers(tmp_path: Path) -> None:
    cache = VectorCache.open(tmp_path, DIMENSION)
    cache.append(*block(0))
    begun, written = threading.Barrier(4), threading.Event()

    def write(first: int) -> None:
        begun.wait()
        for number in range(first, BLOCKS, 2):
            cache.append(*block(number))

    def read(seed: int) -> int:
        found, number = 0, 0  # block 0 exists from the start; later blocks are chosen at random
        chance = np.random.default_rng(seed)
        begun.wait()
        while not found or not written.is_set():
            keys, vectors = block(number)
            number = int(chance.integers(0, BLOCKS))
            rows = cache.lookup(keys)
            have = rows >= 0
            found += int(have.sum())
            np.testing.assert_array_equal(cache.vectors(rows[have]), vectors[have])
        return found

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read, seed) for seed in (1, 2)]
        writers = [pool.submit(write, first) for first in (0, 1)]
        try:
            for writer in writers:
                writer.result()
        finally:
            written.set()
        assert sum(reader.result() for reader in readers) > 0
    assert len(cache) == BLOCKS * ROWS
    cache.close()
    again = VectorCache.open(tmp_path, DIMENSION)
    for number in range(BLOCKS):
        keys, vectors = block(number)
        np.testing.assert_array_equal(again.vectors(again.lookup(keys)), vectors)
    again.close()
