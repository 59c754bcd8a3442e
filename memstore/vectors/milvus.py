"""Vectors in Milvus: a folder (Milvus Lite, in this process) or a server's URI, by one and the same code.

A collection `memstore_<fingerprint>` has three fields: `id` (namespace and node id, so that two projects that hold
the same rollout do not share a row), `scope` (namespace and kind, which every scan and search is about; on a server
it is the partition key) and `vector`.

What was measured on Milvus Lite 3.2.2, 80,000 x 384 (`benchmarks/vector_writes.py` measures the first again):

- An upsert costs what an insert does, so everything is upserted; blocks of 1,000 rows are the fastest.
- One query without a limit lists all ids in a second; an iterator scans everything again for each page, and
  `count(*)` makes a dictionary of every row, its vector included. Ids are listed, and on Lite counted, by the query.
- An HNSW index occupies a core for half a minute after the write and makes a search three times faster; a search
  there is rare, since links are computed on the arrays. Lite gets FLAT, which is exact; a server gets HNSW.

After a write failed, the store refuses further ones until it is opened again: Lite reads its log up to the first
torn record, and what came behind it would be lost.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from memstore.errors import EmbedderError, LocationError, StoreError, StoreFullError
from memstore.types import VECTOR_KINDS, FloatMatrix, VectorKind
from memstore.vectors.checks import check_ids, check_k, check_name, check_upsert, check_vectors
from memstore.vectors.lite import (
    LiteServer,
    is_out_of_space,
    leave_logging_to_the_application,
    opening_failed,
    start_lite,
)
from memstore.vectors.protocol import Fetched, Hits

PREFIX = "memstore_"
WRITE_BLOCK = 1_000
READ_BLOCK = 5_000
SEARCH_BLOCK = 1_000
_CONNECT_S = 30.0
_NAME_LENGTH = 300


class MilvusVectors:
    """`VectorStore` in Milvus. Writes of one store are serialised: Milvus Lite does not do it."""

    def __init__(
        self, client: Any, where: str, fingerprint: str, dimension: int, namespace: str, server: LiteServer | None
    ) -> None:
        """Wrap a connected client; use `open`."""
        self.backend = "milvus" if server is None else "milvus-lite"
        self.fingerprint = fingerprint
        self.dimension = dimension
        self._client = client
        self._where = where
        self._namespace = namespace
        self._collection = PREFIX + fingerprint
        self._writing = threading.Lock()
        self._failed = False
        self._close = weakref.finalize(self, _shut_down, client, server)

    @classmethod
    def open(
        cls,
        uri: str | Path,
        *,
        fingerprint: str,
        dimension: int,
        namespace: str = "default",
        token: str | None = None,
        create: bool = True,
    ) -> MilvusVectors:
        """Open the collection of one embedder.

        Args:
            uri: a folder (Milvus Lite) or the address of a server (`http://host:19530`).
            token: a server's API key or `user:password`.
            create: make the folder and the collection where they are not there.

        Raises:
            InputError: a fingerprint or a namespace that cannot be a name.
            LocationError: there is no such folder or collection, and `create` is off.
            LockedError: another process, or this one, has the folder open.
            EmbedderError: the collection holds vectors of another dimension.
            StoreError: it cannot be opened, or the server cannot be reached.
        """
        check_name("fingerprint", fingerprint)
        check_name("namespace", namespace)
        server = None
        where = str(uri)
        if isinstance(uri, Path) or "://" not in uri:
            folder = Path(uri)
            if not create and not folder.is_dir():
                raise LocationError(f"there are no vectors in {folder}; run `memstore verify --repair` to make them")
            server = start_lite(folder)
        client = None
        try:
            client = _connect(server.uri if server else where, token)
            store = cls(client, where, fingerprint, dimension, namespace, server)
        except BaseException:
            _shut_down(client, server)
            raise
        try:
            store._settle_collection(create)
        except BaseException:
            store.close()
            raise
        return store

    def upsert(self, kind: VectorKind, ids: Sequence[str], vectors: FloatMatrix) -> None:
        """Add or replace vectors; ids must be unique in the call."""
        check_upsert(ids, vectors, self.dimension)
        scope = self._scope(kind)
        with self._write("write"):
            for start in range(0, len(ids), WRITE_BLOCK):
                names = ids[start : start + WRITE_BLOCK]
                rows = [
                    {"id": self._key(name), "scope": scope, "vector": vector}
                    for name, vector in zip(names, vectors[start : start + WRITE_BLOCK], strict=True)
                ]
                self._client.upsert(self._collection, rows)

    def fetch(self, ids: Sequence[str]) -> Fetched:
        """Vectors of these ids, in their order."""
        vectors = np.zeros((len(ids), self.dimension), dtype=np.float32)
        found = np.zeros(len(ids), dtype=np.bool_)
        for start, rows in self._get(ids, "vector"):
            by_id = {row["id"]: row["vector"] for row in rows}
            for position, name in enumerate(ids[start : start + READ_BLOCK], start):
                vector = by_id.get(self._key(name))
                if vector is not None:
                    vectors[position] = vector
                    found[position] = True
        return Fetched(vectors, found)

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the store does not hold, in their order."""
        held: set[str] = set()
        for _, rows in self._get(ids, "id"):
            held.update(row["id"] for row in rows)
        return [name for name in ids if self._key(name) not in held]

    def ids(self, kind: VectorKind) -> Iterator[list[str]]:
        """All ids of a kind, in blocks, each once."""
        names = self._ids(kind)
        for start in range(0, len(names), READ_BLOCK):
            yield names[start : start + READ_BLOCK]

    def search(self, kind: VectorKind, vectors: FloatMatrix, k: int) -> Hits:
        """The k nearest of a kind by cosine for each row of `vectors` (float32 [N, D])."""
        check_vectors(vectors, self.dimension)
        check_k(k)
        rows: list[list[Any]] = []
        with self._faults("search"):
            for start in range(0, len(vectors), SEARCH_BLOCK):
                block = list(vectors[start : start + SEARCH_BLOCK])
                rows += self._client.search(
                    self._collection, block, filter=self._filter(kind), limit=k, output_fields=["id"]
                )
        ids = np.full((len(vectors), k), "", dtype=object)
        scores = np.full((len(vectors), k), -np.inf, dtype=np.float32)
        for row, hits in enumerate(rows):
            for rank, hit in enumerate(hits):
                ids[row, rank] = self._name(hit["id"])
                scores[row, rank] = min(max(hit["distance"], -1.0), 1.0)
        return Hits(ids.astype(np.str_), scores)

    def count(self, kind: VectorKind | None = None) -> int:
        """How many vectors are held (deleted ones not counted)."""
        if kind is None:
            return sum(self.count(each) for each in VECTOR_KINDS)
        if self.backend == "milvus-lite":
            return len(self._ids(kind))
        with self._faults("count"):
            rows = self._client.query(self._collection, filter=self._filter(kind), output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    def delete(self, ids: Sequence[str]) -> None:
        """Remove vectors; ids that are not there are ignored."""
        check_ids(ids)
        with self._write("delete from"):
            for start in range(0, len(ids), READ_BLOCK):
                keys = [self._key(name) for name in ids[start : start + READ_BLOCK]]
                self._client.delete(self._collection, ids=keys)

    def collections(self) -> list[str]:
        """Fingerprints of all embedders that have a collection in this store, this one's included."""
        with self._faults("list"):
            names = self._client.list_collections()
        return sorted(name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX))

    def flush(self) -> None:
        """Make everything durable and indexed; called once, at the end of a bulk write."""
        with self._write("flush"):
            self._client.flush(self._collection)

    def close(self) -> None:
        """Release the store; calling it again does nothing."""
        with self._writing:
            self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _settle_collection(self, create: bool) -> None:
        """Make or check the collection, and load it."""
        try:
            with self._faults("open"):
                if not self._client.has_collection(self._collection):
                    self._make_collection(create)
                self._client.load_collection(self._collection)
                fields = self._client.describe_collection(self._collection)["fields"]
        except StoreError as error:
            if self.backend == "milvus-lite":
                raise opening_failed(Path(self._where), error.__cause__ or error) from error  # type: ignore[arg-type]
            raise
        held = next(field["params"]["dim"] for field in fields if field["name"] == "vector")
        if int(held) != self.dimension:
            raise EmbedderError(
                f"the collection {self._collection} in {self._where} holds vectors of {held} dimensions and the "
                f"embedder makes {self.dimension}; open the memory with the embedder it was built with"
            )

    def _make_collection(self, create: bool) -> None:
        if not create:
            raise LocationError(
                f"there is no collection {self._collection} in {self._where}; "
                "run `memstore verify --repair` to make its vectors"
            )
        from pymilvus import DataType

        lite = self.backend == "milvus-lite"
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_NAME_LENGTH)
        # Lite would spread the rows over 16 folders by this key and gain nothing.
        schema.add_field("scope", DataType.VARCHAR, max_length=_NAME_LENGTH, is_partition_key=not lite)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension)
        index = self._client.prepare_index_params()
        if lite:
            index.add_index("vector", index_type="FLAT", metric_type="COSINE")
        else:
            params = {"M": 16, "efConstruction": 200}
            index.add_index("vector", index_type="HNSW", metric_type="COSINE", params=params)
        # Strong: what was written is read, also by the process that opens the store next.
        self._client.create_collection(self._collection, schema=schema, consistency_level="Strong")
        # Loading waits for the index; waiting for it here would poll every half second.
        self._client.create_index(self._collection, index, sync=False)

    def _get(self, ids: Sequence[str], field: str) -> Iterator[tuple[int, list[Any]]]:
        """The rows of these ids, a block at a time, with the block's first position; in any order, absent ones not."""
        check_ids(ids)
        for start in range(0, len(ids), READ_BLOCK):
            keys = [self._key(name) for name in ids[start : start + READ_BLOCK]]
            with self._faults("read"):
                rows = self._client.get(self._collection, ids=keys, output_fields=["id", field])
            yield start, rows

    def _ids(self, kind: VectorKind) -> list[str]:
        with self._faults("list"):
            rows = self._client.query(self._collection, filter=self._filter(kind), output_fields=["id"])
        return [self._name(row["id"]) for row in rows]

    def _scope(self, kind: VectorKind) -> str:
        return f"{self._namespace}/{kind}"

    def _filter(self, kind: VectorKind) -> str:
        return f'scope == "{self._scope(kind)}"'

    def _key(self, name: str) -> str:
        return f"{self._namespace}/{name}"

    def _name(self, key: str) -> str:
        return key[len(self._namespace) + 1 :]

    @contextmanager
    def _write(self, doing: str) -> Iterator[None]:
        with self._writing:
            if self._failed:
                raise StoreError(
                    f"an earlier write to the vectors in {self._where} failed; close and open them again before writing"
                )
            self._failed = True
            with self._faults(doing):
                yield
            self._failed = False

    @contextmanager
    def _faults(self, doing: str) -> Iterator[None]:
        """Turn what the client raises into an error of ours."""
        import grpc  # type: ignore[import-untyped]
        from pymilvus.exceptions import MilvusException

        if not self._close.alive:
            raise StoreError(f"the vectors in {self._where} are closed; open them again")
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            if is_out_of_space(error):
                raise StoreFullError(
                    f"there is no space left where the vectors are ({self._where}); free some, open them again and "
                    "repeat the command"
                ) from error
            raise StoreError(f"could not {doing} the vectors in {self._where}: {_reason(error)}") from error


_NO_PINGS = {"grpc.keepalive_permit_without_calls": 0, "grpc.keepalive_time_ms": 2**31 - 1}
"""The client's own default pings an idle server every 10 s; after minutes of embedding Milvus Lite takes that for abuse
and hangs up, with a line of gRPC's on stderr."""


def _connect(uri: str, token: str | None) -> Any:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    leave_logging_to_the_application()
    try:
        return MilvusClient(uri, token=token or "", timeout=_CONNECT_S, grpc_options=_NO_PINGS)
    except MilvusException as error:
        raise StoreError(f"no Milvus answers at {uri}: {_reason(error)}; check the address and the token") from error


def _shut_down(client: Any, server: LiteServer | None) -> None:
    try:
        if client is not None:
            client.close()
    finally:
        if server is not None:
            server.stop()


def _reason(error: Exception) -> str:
    return str(getattr(error, "message", None) or error).rstrip(".")
