"""`MemoryVectors`: an in-memory vector store, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from memstore.checks import check_ids, check_k, check_upsert, check_vectors
from memstore.errors import EmbedderError, StoreError
from memstore.types import VECTOR_KINDS, FloatMatrix, VectorKind
from memstore.vectors.base import CollectionStore
from memstore.vectors.protocol import Fetched, Hits


class Row(NamedTuple):
    """One stored vector (float32 [D]) and its kind."""

    kind: VectorKind
    vector: FloatMatrix


class SharedVectors:
    """Content that stores opened with it share: dimensions by fingerprint, rows by fingerprint and namespace."""

    def __init__(self) -> None:
        self.dimensions: dict[str, int] = {}
        self.rows: dict[tuple[str, str], dict[str, Row]] = {}


class MemoryVectors(CollectionStore):
    """`VectorStore` over a dictionary. Stores with the same `shared` have the same vectors."""

    backend = "memory"
    searches_fast = False

    def __init__(
        self, *, fingerprint: str, dimension: int, namespace: str = "default", shared: SharedVectors | None = None
    ) -> None:
        super().__init__(fingerprint, dimension, namespace)
        self._shared = shared if shared is not None else SharedVectors()
        self._closed = False
        self._connected(create=True)

    def upsert(
        self, kind: VectorKind, ids: Sequence[str], vectors: FloatMatrix, *, keys: Sequence[str] | None = None
    ) -> None:
        """Add or replace vectors; ids must be unique in the call. `keys` have no effect."""
        self._check_open()
        check_upsert(ids, vectors, self.dimension)
        for name, vector in zip(ids, vectors, strict=True):
            self._rows[name] = Row(kind, vector.copy())

    def fetch(self, ids: Sequence[str]) -> Fetched:
        """Vectors of these ids, in their order."""
        self._check_open()
        check_ids(ids)
        vectors = np.zeros((len(ids), self.dimension), dtype=np.float32)
        found = np.array([name in self._rows for name in ids], dtype=np.bool_)
        for position, name in enumerate(ids):
            if found[position]:
                vectors[position] = self._rows[name].vector
        return Fetched(vectors, found)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the store does not hold, in their order."""
        self._check_open()
        check_ids(ids)
        return [name for name in ids if name not in self._rows]

    def ids(self, kind: VectorKind) -> Iterator[list[str]]:
        """All ids of a kind, in blocks, each once."""
        self._check_open()
        names = [name for name, row in self._rows.items() if row.kind == kind]
        if names:
            yield names

    def search(self, kind: VectorKind, vectors: FloatMatrix, k: int, *, width: int | None = None) -> Hits:
        """The k nearest of a kind by cosine for each row of `vectors` (float32 [N, D]).

        Args:
            width: ignored; there is no index.
        """
        self._check_open()
        check_vectors(vectors, self.dimension)
        check_k(k)
        names = [name for block in self.ids(kind) for name in block]
        ids = np.full((len(vectors), k), "", dtype=object)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        if names and len(vectors):
            held = np.stack([self._rows[name].vector for name in names])
            cosine = np.clip(_unit(vectors) @ _unit(held).T, -1.0, 1.0)
            order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
            ids[:, : order.shape[1]] = np.array(names, dtype=object)[order]
            scores[:, : order.shape[1]] = np.take_along_axis(cosine, order, axis=1)
        return Hits(ids.astype(np.str_), scores)

    def count(self, kind: VectorKind | None = None) -> int:
        """How many vectors are held (deleted ones not counted)."""
        kinds = VECTOR_KINDS if kind is None else (kind,)
        return sum(len(block) for each in kinds for block in self.ids(each))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove vectors; ids that are not there are ignored."""
        self._check_open()
        check_ids(ids)
        for name in ids:
            self._rows.pop(name, None)

    def collections(self) -> list[str]:
        """Fingerprints of all embedders that this namespace has vectors of, this one's included."""
        self._check_open()
        return sorted(fingerprint for fingerprint, namespace in self._shared.rows if namespace == self._namespace)

    def discard(self, fingerprint: str) -> None:
        """Remove all that this namespace has of another embedder; nothing where it has nothing."""
        self._check_open()
        self._refuse_own(fingerprint)
        self._shared.rows.pop((fingerprint, self._namespace), None)

    def flush(self) -> None:
        """Do nothing; the store has no disk."""
        self._check_open()

    def close(self) -> None:
        """Release the store; calling it again does nothing."""
        self._closed = True

    def _connect(self, create: bool) -> None:
        """Find or create the rows of this embedder and namespace, with `create` or without."""
        held = self._shared.dimensions.setdefault(self.fingerprint, self.dimension)
        if held != self.dimension:
            raise EmbedderError(f"{self.fingerprint} holds vectors of {held} dimensions, not {self.dimension}")
        self._rows = self._shared.rows.setdefault((self.fingerprint, self._namespace), {})

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the vectors are closed; open them again")


def _unit(vectors: FloatMatrix) -> FloatMatrix:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: FloatMatrix = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
    return unit
