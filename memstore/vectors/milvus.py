"""Vectors on a Milvus server.

Everything is upserted, in blocks of 1,000 rows, which were the fastest. Reads are paged, because a server refuses
responses beyond a size. `collection` defines the layout, `calls` the retries and errors.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from memstore.checks import check_ids, check_k, check_upsert, check_vectors
from memstore.errors import EmbedderError, LocationError, StoreError
from memstore.types import VECTOR_KINDS, FloatMatrix, VectorKind
from memstore.vectors.base import CollectionStore
from memstore.vectors.calls import Calls, connect, without_secrets
from memstore.vectors.collection import (
    PREFIX,
    Share,
    dimension_of,
    drop_partition,
    make_collection,
    make_partition,
    search_width,
)
from memstore.vectors.protocol import Fetched, Hits

WRITE_BLOCK = 1_000
"""Rows of an upsert; the fastest size."""
READ_BLOCK = 5_000
"""Rows of a page."""
SEARCH_BLOCK = 1_000
"""Vectors of a search."""
_MESSAGE_BYTES = 16 * 2**20
"""A server accepts and returns 64 MB at most; blocks of wide vectors are limited to a quarter of it."""
_HITS_A_CALL = 200_000
_INDEX_S, _INDEX_POLL_S = 3600.0, 0.25


class MilvusVectors(CollectionStore):
    """`VectorStore` on a Milvus server. Its methods may be called from several threads."""

    backend = "milvus"
    searches_fast = True

    def __init__(self, uri: str, token: str | None, fingerprint: str, dimension: int, namespace: str) -> None:
        """Connect to the server; use `open`."""
        super().__init__(fingerprint, dimension, namespace)
        self._client = client = connect(uri, token)
        self._where = without_secrets(uri)
        self._share = Share.of(namespace)
        self._collection = PREFIX + fingerprint
        self._calls = Calls(client, self._where, self._collection)
        self._block = max(1, min(READ_BLOCK, _MESSAGE_BYTES // (4 * dimension)))
        self._close = weakref.finalize(self, client.close)

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        fingerprint: str,
        dimension: int,
        namespace: str = "default",
        token: str | None = None,
        create: bool = True,
    ) -> MilvusVectors:
        """Open the collection of one embedder.

        Args:
            uri: address of the server (`http://host:19530`, `http://host:19530/database`).
            token: a server's API key or `user:password`.
            create: create the collection and the namespace's partition if they do not exist.

        Raises:
            InputError: the fingerprint or the namespace is not a valid name.
            LocationError: there is no such collection or partition, and `create` is off.
            EmbedderError: the collection holds vectors of another dimension.
            StoreError: the server cannot be reached, or refuses the token.
        """
        return cls(uri, token, fingerprint, dimension, namespace)._connected(create)

    def upsert(
        self, kind: VectorKind, ids: Sequence[str], vectors: FloatMatrix, *, keys: Sequence[str] | None = None
    ) -> None:
        """Add or replace vectors; ids must be unique in the call. `keys` have no effect."""
        check_upsert(ids, vectors, self.dimension)
        scope = self._share.scope(kind)
        step = min(WRITE_BLOCK, self._block)
        for start in range(0, len(ids), step):
            names = ids[start : start + step]
            rows = [
                {"id": self._share.key(name), "scope": scope, "vector": vector}
                for name, vector in zip(names, vectors[start : start + step], strict=True)
            ]
            self._opened.call("write", "upsert", rows, partition_name=self._share.partition)

    def fetch(self, ids: Sequence[str]) -> Fetched:
        """Vectors of these ids, in their order."""
        vectors = np.zeros((len(ids), self.dimension), dtype=np.float32)
        found = np.zeros(len(ids), dtype=np.bool_)
        for start, rows in self._get(ids, "vector"):
            by_id = {row["id"]: row["vector"] for row in rows}
            for position, name in enumerate(ids[start : start + self._block], start):
                vector = by_id.get(self._share.key(name))
                if vector is not None:
                    vectors[position] = vector
                    found[position] = True
        return Fetched(vectors, found)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the store does not hold, in their order."""
        held: set[str] = set()
        for _, rows in self._get(ids, "id"):
            held.update(row["id"] for row in rows)
        return [name for name in ids if self._share.key(name) not in held]

    def ids(self, kind: VectorKind) -> Iterator[list[str]]:
        """All ids of a kind, in blocks, each once."""
        names = self._ids(kind)
        for start in range(0, len(names), READ_BLOCK):
            yield names[start : start + READ_BLOCK]

    def search(self, kind: VectorKind, vectors: FloatMatrix, k: int, *, width: int | None = None) -> Hits:
        """The k nearest of a kind by cosine for each row of `vectors` (float32 [N, D]).

        Args:
            width: candidates that the index looks at (HNSW `ef`); None for the default.
        """
        check_vectors(vectors, self.dimension)
        check_k(k)
        ids = np.full((len(vectors), k), "", dtype=object)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        step = max(1, min(SEARCH_BLOCK, self._block, _HITS_A_CALL // k))
        for start in range(0, len(vectors), step):
            block = list(vectors[start : start + step])
            options = {**self._share.within(kind), **search_width(k, width)}
            found = self._opened.call("search", "search", block, limit=k, **options)
            for row, hits in enumerate(found, start):
                for rank, hit in enumerate(hits):
                    ids[row, rank] = self._share.name(hit["id"])
                    scores[row, rank] = min(max(hit["distance"], -1.0), 1.0)
        return Hits(ids.astype(np.str_), scores)

    def count(self, kind: VectorKind | None = None) -> int:
        """How many vectors are held (deleted ones not counted)."""
        if kind is None:
            return sum(self.count(each) for each in VECTOR_KINDS)
        rows = self._opened.call("count", "query", output_fields=["count(*)"], **self._share.within(kind))
        return int(rows[0]["count(*)"])

    def delete(self, ids: Sequence[str]) -> None:
        """Remove vectors; ids that are not there are ignored."""
        check_ids(ids)
        for start in range(0, len(ids), READ_BLOCK):
            keys = [self._share.key(name) for name in ids[start : start + READ_BLOCK]]
            self._opened.call("delete from", "delete", ids=keys, partition_name=self._share.partition)

    def collections(self) -> list[str]:
        """Fingerprints of all embedders that this namespace has vectors of, this one's included."""
        names = self._opened.attempt("list", self._client.list_collections)
        return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX) and self._shares(name))

    def discard(self, fingerprint: str) -> None:
        """Remove all that this namespace has of another embedder; nothing where it has nothing.

        Raises:
            InputError: it is this store's own embedder.
        """
        self._refuse_own(fingerprint)
        name = PREFIX + fingerprint
        if self._opened.attempt("open", lambda: self._client.has_collection(name)) and self._shares(name):
            drop = partial(drop_partition, self._client, name, self._share.partition)
            self._opened.attempt("delete from", drop)

    def flush(self) -> None:
        """Make everything durable and indexed; called once, at the end of a bulk write."""
        self._opened.call("flush", "flush", timeout=_INDEX_S)
        self._wait_for_index()

    def close(self) -> None:
        """Release the store; calling it again does nothing."""
        self._close()

    def _connect(self, create: bool) -> None:
        """Create or check the collection and the namespace's partition, and load the collection."""
        calls = self._opened
        if not calls.call("open", "has_collection"):
            self._refuse_unless(create)
            calls.attempt("open", lambda: make_collection(self._client, self._collection, self.dimension))
        held = dimension_of(calls.call("open", "describe_collection"))
        if held != self.dimension:
            raise EmbedderError(
                f"the collection {self._collection} in {self._where} holds vectors of {held} dimensions and the "
                f"embedder makes {self.dimension}; open the memory with the embedder it was built with"
            )
        if not self._shares(self._collection):
            self._refuse_unless(create)
            partition = self._share.partition
            calls.attempt("open", lambda: make_partition(self._client, self._collection, partition))
        calls.call("load", "load_collection", timeout=_INDEX_S)

    def _refuse_unless(self, create: bool) -> None:
        if not create:
            raise LocationError(
                f"there is no collection {self._collection} in {self._where}; "
                "run `memstore verify --repair` to make its vectors"
            )

    def _shares(self, collection: str) -> bool:
        """Whether the namespace has a partition of this collection."""
        partition = self._share.partition
        return bool(self._opened.attempt("open", lambda: self._client.has_partition(collection, partition)))

    def _wait_for_index(self) -> None:
        """Wait until the server has indexed the flushed rows; until then it searches them without an index."""
        give_up = time.monotonic() + _INDEX_S
        while time.monotonic() < give_up:
            if int(self._opened.call("flush", "describe_index", "vector").get("pending_index_rows", 0)) == 0:
                return
            time.sleep(_INDEX_POLL_S)
        raise StoreError(f"{self._where} did not index its vectors within {_INDEX_S:.0f} s; see the server's log")

    def _get(self, ids: Sequence[str], field: str) -> Iterator[tuple[int, list[Any]]]:
        """The rows of these ids that exist, in any order, block by block with the position of the block's first id."""
        check_ids(ids)
        for start in range(0, len(ids), self._block):
            keys = [self._share.key(name) for name in ids[start : start + self._block]]
            rows = self._opened.call(
                "read", "get", ids=keys, output_fields=["id", field], partition_names=[self._share.partition]
            )
            yield start, rows

    def _ids(self, kind: VectorKind) -> list[str]:
        rows = self._opened.attempt("list", lambda: self._pages(kind))
        return [self._share.name(row["id"]) for row in rows]

    def _pages(self, kind: VectorKind) -> list[Any]:
        pages = self._client.query_iterator(
            self._collection, batch_size=READ_BLOCK, output_fields=["id"], **self._share.within(kind)
        )
        rows: list[Any] = []
        try:
            while page := pages.next():
                rows += page
        finally:
            pages.close()
        return rows

    @property
    def _opened(self) -> Calls:
        """The calls of an open store."""
        if not self._close.alive:
            raise StoreError(f"the vectors in {self._where} are closed; open them again")
        return self._calls
