"""The conformance suite of a memory, in a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memstore.embedding.protocol import Embedder
from memstore.memory import Memory
from memstore.testing.conformance.memory import SETTINGS, MemoryConformance, OpenMemory, write_rollouts
from memstore.testing.conformance.memory_features import FeaturesConformance
from memstore.testing.doubles.embedder import HashEmbedder


class TestEmbedded(MemoryConformance, FeaturesConformance):
    @pytest.fixture
    def open_memory(self, tmp_path: Path) -> OpenMemory:
        def open_memory(name: str, *, create: bool = False, embedder: Embedder | None = None) -> Memory:
            return Memory.open(tmp_path / name, create=create, embedder=embedder, settings=SETTINGS)

        return open_memory


def test_a_memory_whose_vectors_were_in_milvus_lite_opens_with_them_copied_from_the_cache(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "old", create=True, embedder=HashEmbedder(), settings=SETTINGS) as memory:
        memory.ingest([write_rollouts(tmp_path / "rollouts.jsonl")])
        count = memory.vectors.count()
    shutil.rmtree(tmp_path / "old" / "vectors")
    (tmp_path / "old" / "vectors" / "collections").mkdir(parents=True)
    with Memory.open(tmp_path / "old", embedder=HashEmbedder(), settings=SETTINGS) as memory:
        assert count > 0
        assert memory.vectors.count() == count
        assert memory.verify().ok
