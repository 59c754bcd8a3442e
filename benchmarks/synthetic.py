"""Synthetic rollouts with vectors for the speed benchmarks, with sizes and shapes of real ones.

Texts are random words, since only their length matters to a store. Vectors are unit vectors around cluster centres, so
that neighbour search has as much work as on real embeddings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROLLOUTS_A_QUERY = 8
QUERY_WORDS, THINKING_WORDS = 48, 190
DIMENSION = 384


class Synthetic(NamedTuple):
    """A file of rollouts, its texts, and their vectors."""

    path: Path
    texts: list[str]
    vectors: np.ndarray
    """float32 [len(texts), 384], unit length."""


def make(folder: Path, queries: int, seed: int = 0) -> Synthetic:
    """Write `queries` x 8 rollouts to a JSONL file in `folder`."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(3, 9))) for _ in range(5000)])
    texts: list[str] = []
    path = folder / f"synthetic-{queries}.jsonl"
    with path.open("w") as file:
        for number in range(queries):
            query = " ".join(rng.choice(words, QUERY_WORDS)) + f" {number}?"
            texts.append(query)
            right = int(rng.integers(0, 1000))
            for sample in range(ROLLOUTS_A_QUERY):
                thinking = " ".join(rng.choice(words, THINKING_WORDS)) + f" {number}.{sample}"
                texts.append(thinking)
                answer = right if rng.random() < 0.6 else int(rng.integers(0, 1000))
                row = {
                    "query_id": f"synthetic/{number}",
                    "dataset": "synthetic",
                    "domain": "math",
                    "query": query,
                    "gold": str(right),
                    "thinking": thinking,
                    "answer": str(answer),
                    "policy": "random",
                    "run": "benchmark",
                    "step": 0,
                    "sample_index": sample,
                    "reward": float(answer == right) if number % 5 == 0 else None,
                }
                file.write(json.dumps(row) + "\n")
    return Synthetic(path, texts, clustered(len(texts), queries // 50 + 1, rng))


def clustered(count: int, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Unit vectors float32 [count, 384] around `clusters` centres."""
    centres = rng.standard_normal((clusters, DIMENSION), dtype=np.float32)
    vectors = centres[rng.integers(0, clusters, count)]
    vectors += 0.6 * rng.standard_normal((count, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors
