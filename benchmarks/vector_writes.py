"""What writing vectors through the store costs beside a plain pymilvus insert of the same array into Milvus Lite.

    python benchmarks/vector_writes.py [--rows 80000] [--dimension 384] [--repeat 3]

Plain is what one would write without memstore: a collection of id and vector, `MilvusClient.insert` in blocks of
5,000. The two take turns, each time in a fresh folder; the quickest run of each counts. Flushing is told apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from memstore.types import FloatMatrix
from memstore.vectors.lite import start_lite
from memstore.vectors.milvus import MilvusVectors

PLAIN_BLOCK = 5_000


class Seconds(NamedTuple):
    """How long the rows took to be written, and then to be flushed."""

    write: float
    flush: float


def plain_insert(folder: Path, vectors: FloatMatrix) -> Seconds:
    """Insert vectors (float32 [N, D]) with pymilvus alone."""
    from pymilvus import DataType, MilvusClient

    server = start_lite(folder)
    client = MilvusClient(server.uri)
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="COSINE")
    client.create_collection("plain", schema=schema, index_params=index)
    began = time.perf_counter()
    for start in range(0, len(vectors), PLAIN_BLOCK):
        block = vectors[start : start + PLAIN_BLOCK]
        client.insert("plain", [{"id": _id(row), "vector": vector} for row, vector in enumerate(block, start)])
    written = time.perf_counter()
    client.flush("plain")
    flushed = time.perf_counter()
    client.close()
    server.stop()
    return Seconds(written - began, flushed - written)


def store_upsert(folder: Path, vectors: FloatMatrix) -> Seconds:
    """Write the same vectors through the store, as an ingest does."""
    with MilvusVectors.open(folder, fingerprint="benchmark", dimension=vectors.shape[1]) as store:
        ids = [_id(row) for row in range(len(vectors))]
        began = time.perf_counter()
        store.upsert("thinking", ids, vectors)
        written = time.perf_counter()
        store.flush()
        return Seconds(written - began, time.perf_counter() - written)


def compare(vectors: FloatMatrix, repeat: int = 3) -> dict[str, Seconds]:
    """The quickest of `repeat` runs of each, taking turns."""
    runs: dict[str, list[Seconds]] = {"plain pymilvus insert": [], "the store's upsert": []}
    for _ in range(repeat):
        for name, write in zip(runs, (plain_insert, store_upsert), strict=True):
            with tempfile.TemporaryDirectory() as folder:
                runs[name].append(write(Path(folder) / "vectors", vectors))
    return {name: min(seconds, key=lambda each: each.write) for name, seconds in runs.items()}


def _id(row: int) -> str:
    return f"t-{row:024x}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=80_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    vectors = np.random.default_rng(0).standard_normal((options.rows, options.dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    measured = compare(vectors, options.repeat)
    plain = measured["plain pymilvus insert"]
    print(f"{options.rows} x {options.dimension}{'':20} {'write s':>8} {'flush s':>8} {'write, times plain':>19}")
    for name, seconds in measured.items():
        print(f"{name:32} {seconds.write:8.2f} {seconds.flush:8.2f} {seconds.write / plain.write:19.2f}")


if __name__ == "__main__":
    main()
