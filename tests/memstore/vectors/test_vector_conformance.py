"""The conformance suite on the double and on Milvus Lite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memstore.testing.vector_conformance import OpenStore, VectorStoreConformance
from memstore.testing.vector_double import MemoryVectors, Shelf
from memstore.vectors.milvus import MilvusVectors


class TestMemoryVectors(VectorStoreConformance):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        shelf = Shelf()

        def open_store(**options: Any) -> MemoryVectors:
            return MemoryVectors(shelf=shelf, **options)

        return open_store


class TestMilvusLite(VectorStoreConformance):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        def open_store(**options: Any) -> MilvusVectors:
            return MilvusVectors.open(tmp_path / "vectors", **options)

        return open_store
