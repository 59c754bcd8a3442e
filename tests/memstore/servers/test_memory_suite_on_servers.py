"""The conformance suite of a memory, on a Neo4j and a Milvus server."""

from __future__ import annotations

import pytest

from memstore.embedding.protocol import Embedder
from memstore.memory import Memory
from memstore.testing.conformance.memory import SETTINGS, MemoryConformance, OpenMemory
from memstore.testing.conformance.memory_features import FeaturesConformance


class TestOnServers(MemoryConformance, FeaturesConformance):
    every_step = 3  # one takes 15 s on servers, and the folder's suite takes them all

    @pytest.fixture
    def open_memory(self, profiles: None) -> OpenMemory:
        del profiles  # it makes the two locations

        def open_memory(name: str, *, create: bool = False, embedder: Embedder | None = None) -> Memory:
            return Memory.open(name, create=create, embedder=embedder, settings=SETTINGS)

        return open_memory
