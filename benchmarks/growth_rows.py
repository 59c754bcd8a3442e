"""Rollouts for benchmarks/growth.py, made as they are read, with an embedder whose vectors cost next to nothing.

A query has 10 rollouts of two policies. A thinking is 1.3 kB of sentences, every second one with a sum. Right answers
agree and wrong ones scatter. One query in five is labelled. A text's vector lies near the centre of a
cluster of 50 queries, so that neighbour search has as much work as on real embeddings.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from synthetic_memory import sentences

from memstore.embedding.protocol import Fingerprint, ProgressCallback

ROLLOUTS_A_QUERY = 10
QUERIES_A_CLUSTER = 50
LABELLED_EVERY = 5
DIMENSION = 384
WORDS_A_SENTENCE, SENTENCES_A_THINKING, SENTENCES_A_QUERY = 14, 13, 3
NOISE = 0.6
"""Standard deviation of a coordinate around the centre of its cluster; that of centres is 1."""


class ClusterEmbedder:
    """Unit vectors near the centre of the cluster of the query whose number ends a text."""

    fingerprint = Fingerprint("clusters", "1", DIMENSION, True, 0, "head")

    def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> np.ndarray:
        """Unit vectors float32 [N, 384] of these texts, in their order."""
        x = np.empty((len(texts), DIMENSION), np.float32)
        pool = _noise()
        for row, text in enumerate(texts):
            number = int(text.rpartition("#")[2].partition(".")[0].rstrip("?"))
            start = zlib.crc32(text.encode()) % (len(pool) - DIMENSION)
            x[row] = _centre(number // QUERIES_A_CLUSTER) + pool[start : start + DIMENSION]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        if progress is not None and texts:
            progress(len(texts))
        return x


@cache
def _centre(cluster: int) -> np.ndarray:
    return np.random.default_rng(cluster).standard_normal(DIMENSION, dtype=np.float32)


@cache
def _noise() -> np.ndarray:
    return NOISE * np.random.default_rng(0).standard_normal(2**24, dtype=np.float32)


def write_rows(path: Path, queries: int, *, first: int = 0, policies: tuple[str, str] = ("early", "late")) -> None:
    """Write 10 rollouts each of so many queries to a file of JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(queries, first=first, policies=policies))


def rows(queries: int, *, first: int = 0, policies: tuple[str, str] = ("early", "late")) -> Iterator[dict[str, Any]]:
    """10 rollouts each of so many queries, five of each policy."""
    pool = _sentences()
    for number in range(first, first + queries):
        chance = np.random.default_rng(number)
        right, skill = int(chance.integers(1000)), chance.uniform(0.2, 0.95)
        drawn = chance.integers(0, len(pool), (ROLLOUTS_A_QUERY + 1, SENTENCES_A_THINKING)).tolist()
        hits = chance.random(ROLLOUTS_A_QUERY) < skill
        wrong = right + chance.integers(1, 50, ROLLOUTS_A_QUERY)
        query = " ".join(pool[at] for at in drawn[-1][:SENTENCES_A_QUERY]) + f" How many are there? #{number}?"
        for sample in range(ROLLOUTS_A_QUERY):
            answer = right if hits[sample] else int(wrong[sample])
            yield {
                "query_id": f"growth/{number}",
                "dataset": "growth",
                "domain": "math",
                "query": query,
                "reward": float(answer == right) if number % LABELLED_EVERY == 0 else None,
                "thinking": " ".join(pool[at] for at in drawn[sample]) + f" So it is {answer}. #{number}.{sample}",
                "answer": str(answer),
                "policy": policies[sample % 2],
                "run": "benchmark",
                "step": sample % 2,
                "sample_index": sample // 2,
            }


@cache
def _sentences() -> list[str]:
    return sentences(WORDS_A_SENTENCE)
