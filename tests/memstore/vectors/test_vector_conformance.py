"""The conformance suite on the in-memory double, the embedded store and a Milvus server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from pymilvus import MilvusClient

from memstore.checks import check_upsert
from memstore.embedding.cache import VectorCache
from memstore.records.ids import vector_key
from memstore.testing.conformance.vectors import OpenStore, VectorStoreConformance
from memstore.testing.doubles.vectors import MemoryVectors, SharedVectors
from memstore.types import FloatMatrix, VectorKind
from memstore.vectors.embedded import EmbeddedVectors
from memstore.vectors.milvus import MilvusVectors


class TestMemoryVectors(VectorStoreConformance):
    @pytest.fixture
    def open_store(self) -> OpenStore:
        shared = SharedVectors()

        def open_store(**options: Any) -> MemoryVectors:
            return MemoryVectors(shared=shared, **options)

        return open_store


class TestEmbeddedVectors(VectorStoreConformance):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        def open_store(**options: Any) -> EmbeddedVectors:
            return EmbeddedVectors.open(tmp_path / "vectors", **options)

        return open_store


class TestEmbeddedVectorsBesideACache(VectorStoreConformance):
    """The vectors are in the cache, and the store has their keys."""

    @pytest.fixture
    def open_store(self, tmp_path: Path) -> OpenStore:
        class Keyed(EmbeddedVectors):
            def upsert(
                self, kind: VectorKind, ids: Sequence[str], vectors: FloatMatrix, *, keys: Sequence[str] | None = None
            ) -> None:
                check_upsert(ids, vectors, self.dimension)
                keys = [vector_key(vector.tobytes().hex()) for vector in vectors]
                caches[self.dimension].append(keys, vectors)
                super().upsert(kind, ids, vectors, keys=keys)

        caches: dict[int, VectorCache] = {}

        def open_store(**options: Any) -> EmbeddedVectors:
            dimension = options["dimension"]
            if dimension not in caches:
                caches[dimension] = VectorCache.open(tmp_path / str(dimension), dimension)
            return Keyed.open(tmp_path / "vectors", cache=caches[dimension], **options)

        return open_store


class TestMilvusServer(VectorStoreConformance):
    @pytest.fixture
    def open_store(self, milvus_uri: str) -> Iterator[OpenStore]:
        """Each test has a database of its own, so that it sees no other test's collections."""
        database = f"test_{uuid.uuid4().hex[:16]}"
        admin = MilvusClient(milvus_uri, dedicated=True)
        admin.create_database(database)
        admin.close()

        def open_store(**options: Any) -> MilvusVectors:
            return MilvusVectors.open(f"{milvus_uri}/{database}", **options)

        yield open_store
        admin = MilvusClient(f"{milvus_uri}/{database}", dedicated=True)
        for collection in admin.list_collections():
            admin.drop_collection(collection)
        admin.drop_database(database)
        admin.close()
