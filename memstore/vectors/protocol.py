"""Vector store protocol and its guarantees.

Vectors are derived data: the texts and the embedder can make them again. A store guarantees that

1. a completed upsert is visible to `fetch`, `missing`, `search` and `count` in this process, and after the process
   was killed and the store opened again;
2. `upsert` of an existing id replaces it, so there is one row per id;
3. vectors are returned bit for bit as they were stored (float32);
4. `search` returns min(k, number of vectors) hits, best first, with the cosine in [-1, 1] as float32; an index may miss
   some of the nearest, but never returns a vector that is not stored;
5. a collection belongs to one embedder: its name contains the fingerprint, and vectors of another dimension are
   refused before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from memstore.types import BoolVector, FloatMatrix, IntVector, VectorKind

FEATURES = "features_"
"""How the name of a collection begins that holds the features of rollouts instead of an embedder's vectors."""


class Fetched(NamedTuple):
    """Vectors by id. `found` is bool [N]; rows of `vectors` (float32 [N, D]) that were not found are zero."""

    vectors: FloatMatrix
    found: BoolVector


class Hits(NamedTuple):
    """Neighbours of each query vector, best first.

    `ids` is str [N, k] with "" and `scores` float32 [N, k] with -inf where fewer than k exist.
    """

    ids: NDArray[np.str_]
    scores: NDArray[np.float32]


class KeyedVectors(Protocol):
    """Vectors by content hash, which a store may refer to: `memstore.embedding.cache.VectorCache`."""

    def lookup(self, keys: Sequence[str]) -> IntVector:
        """Row of each key, -1 where it is not there."""
        ...

    def vectors(self, rows: IntVector) -> FloatMatrix:
        """Vectors of these rows, float32 [N, D], in the given order."""
        ...


class VectorStore(Protocol):
    """The vectors of one memory under one embedder."""

    backend: str
    """`sqlite`, `milvus` or `memory`."""
    searches_fast: bool
    """Whether `search` uses an index, so that linking searches the store instead of comparing arrays."""
    fingerprint: str
    dimension: int

    def upsert(
        self, kind: VectorKind, ids: Sequence[str], vectors: FloatMatrix, *, keys: Sequence[str] | None = None
    ) -> None:
        """Add or replace vectors; ids must be unique in the call.

        Args:
            keys: under which the cache holds these vectors; an embedded store refers to them in place of a copy.

        Raises:
            InputError: another dimension, a NaN or an infinity, or ids that repeat.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> Fetched:
        """Vectors of these ids, in their order."""
        ...

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the store does not hold, in their order."""
        ...

    def ids(self, kind: VectorKind) -> Iterator[list[str]]:
        """All ids of a kind, in blocks, each once."""
        ...

    def search(self, kind: VectorKind, vectors: FloatMatrix, k: int, *, width: int | None = None) -> Hits:
        """The k nearest of a kind by cosine for each row of `vectors` (float32 [N, D]).

        Args:
            width: candidates that an index looks at; None for its default. Stores without an index ignore it.
        """
        ...

    def count(self, kind: VectorKind | None = None) -> int:
        """How many vectors are held (deleted ones not counted)."""
        ...

    def delete(self, ids: Sequence[str]) -> None:
        """Remove vectors; ids that are not there are ignored."""
        ...

    def collections(self) -> list[str]:
        """Fingerprints of all embedders that this namespace has vectors of, this one's included."""
        ...

    def discard(self, fingerprint: str) -> None:
        """Remove all that this namespace has of another embedder; nothing where it has nothing.

        Raises:
            InputError: it is this store's own embedder.
        """
        ...

    def flush(self) -> None:
        """Make everything durable and indexed; called once, at the end of a bulk write."""
        ...

    def close(self) -> None:
        """Release the store; calling it again does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
