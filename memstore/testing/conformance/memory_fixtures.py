"""Fixtures of the conformance suite of memories: rollouts, an embedder that breaks, and how a memory is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstore.embedding.protocol import ProgressCallback
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.types import FloatMatrix
from memstore_schema.columns import NodeLabel

SETTINGS = Settings(link_floor=-1.0)
QUERIES, SAMPLES = 5, 3
OpenMemory = Callable[..., Memory]


class Interrupted(Exception):
    """Simulates a kill at this point."""


class BreakingEmbedder:
    """An embedder other than `HashEmbedder()` that fails after some texts."""

    def __init__(self, after: int) -> None:
        self._whole = HashEmbedder(dimension=16)
        self._left = after
        self.fingerprint = self._whole.fingerprint

    def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> FloatMatrix:
        """Embed texts until the limit, then raise `Interrupted`."""
        self._left -= len(texts)
        if self._left < 0:
            raise Interrupted
        return self._whole.embed(texts, progress)


def write_rollouts(path: Path, queries: range = range(QUERIES), *, run: str = "first", dataset: str = "legs") -> Path:
    """A file of rollouts of these queries."""
    rows = [
        {
            "query": f"How many legs have {number} cats?",
            "dataset": dataset,
            "policy": "tiny",
            "run": run,
            "sample_index": sample,
            "thinking": f"A cat has four legs, so {number} cats have {number} * 4 ({sample}).",
            "answer": str(4 * number + sample % 2),
            "reward": float(sample == 0) if number % 2 else None,
        }
        for number in queries
        for sample in range(SAMPLES)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def thinkings(memory: Memory) -> list[str]:
    """Ids of all rollouts."""
    ids: list[str] = memory.graph.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist()
    return ids


def interrupt_after(patch: pytest.MonkeyPatch, memory: Memory, allowed: int) -> None:
    """Let `delete` make this many writes to graph and vectors, and raise `Interrupted` before the next."""
    left = [allowed]

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Interrupted
            return function(*arguments, **options)

        return call

    patch.setattr(memory.graph, "cypher", counting(memory.graph.cypher))
    patch.setattr(memory.vectors, "delete", counting(memory.vectors.delete))
    patch.setattr(memory.graph, "replace_links", counting(memory.graph.replace_links))


def links(memory: Memory) -> set[tuple[str, str, float]]:
    """All similarity edges, by the ids of their ends."""
    rows = memory.cypher("MATCH (a:Thinking)-[s:SIMILAR_TO]->(b:Thinking) RETURN a.id, b.id, s.score").rows
    return {(str(source), str(target), float(np.float32(score))) for source, target, score in rows}


def interrupted_link(stores: object, settings: object = None, *, progress: object = None) -> None:
    """Replaces `link_memory`."""
    raise Interrupted
