"""The conformance suite of a memory, in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstore.embedding.protocol import Embedder
from memstore.memory import Memory
from memstore.testing.memory_conformance import SETTINGS, MemoryConformance, OpenMemory


class TestEmbedded(MemoryConformance):
    @pytest.fixture
    def open_memory(self, tmp_path: Path) -> OpenMemory:
        def open_memory(name: str, *, create: bool = False, embedder: Embedder | None = None) -> Memory:
            return Memory.open(tmp_path / name, create=create, embedder=embedder, settings=SETTINGS)

        return open_memory
