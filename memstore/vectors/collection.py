"""A collection of one embedder, and the part of it that belongs to one namespace.

Fields: `id` (namespace and node id, so that two projects that hold the same rollout do not share a row), `scope`
(namespace and kind) and `vector`. Each namespace has a partition of its own. It is named, not computed
from `scope` as a partition key: Milvus 2.3.5 puts the rows of an upsert into partitions by their id instead of their
key, and then a search by the key does not find them (measured: 92 of 6,000).

`Share.within` is the one way in which a scan or a search names what it is about.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal, NamedTuple, TypeAlias

from memstore.types import VectorKind

PREFIX = "memstore_"
_NAME_LENGTH = 300
_HNSW = {"M": 16, "efConstruction": 200}
_WIDTH, _MOST_EF = 128, 32_768

IndexType: TypeAlias = Literal["HNSW", "FLAT"]


class Share(NamedTuple):
    """What a namespace has of a collection."""

    namespace: str
    partition: str

    @classmethod
    def of(cls, namespace: str) -> Share:
        """The share of a namespace; its partition's name is readable and tells all namespaces apart."""
        readable = re.sub(r"[^A-Za-z0-9]", "_", namespace)[:64]
        digest = hashlib.sha256(namespace.encode()).hexdigest()[:16]
        return cls(namespace, f"ns_{readable}_{digest}")

    def key(self, name: str) -> str:
        """A node's id as it is stored."""
        return f"{self.namespace}/{name}"

    def name(self, key: str) -> str:
        """The node's id of a stored one."""
        return key[len(self.namespace) + 1 :]

    def scope(self, kind: VectorKind) -> str:
        """What `scope` holds for this kind."""
        return f"{self.namespace}/{kind}"

    def within(self, kind: VectorKind) -> dict[str, Any]:
        """The arguments that keep a query or a search to this namespace and kind."""
        return {"filter": f'scope == "{self.scope(kind)}"', "partition_names": [self.partition]}


def make_collection(client: Any, name: str, dimension: int, *, index: IndexType) -> None:
    """Make the collection and its index: HNSW for a server, FLAT for Milvus Lite.

    FLAT is exact. HNSW on Lite occupies a core for half a minute after a write of 80,000 and makes a search three
    times faster, and a search there is rare, since links are computed on the arrays.
    """
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_NAME_LENGTH)
    schema.add_field("scope", DataType.VARCHAR, max_length=_NAME_LENGTH)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type=index, metric_type="COSINE", params=_HNSW if index == "HNSW" else {})
    # Strong: what was written is read, also by another process that opens the store next. Linking right after an
    # ingest, and `verify`, would otherwise miss the last rows and mend what is not broken. It costs the wait for the
    # server's next time tick (0.2 s) a call, and calls are large.
    client.create_collection(name, schema=schema, consistency_level="Strong")
    # Loading waits for the index; waiting for it here would poll every half second.
    client.create_index(name, indexes, sync=False)


def make_partition(client: Any, collection: str, partition: str) -> None:
    """Make the partition where it is missing, also while another process makes it."""
    from pymilvus.exceptions import MilvusException

    if client.has_partition(collection, partition):
        return
    try:
        client.create_partition(collection, partition)
    except MilvusException:
        if not client.has_partition(collection, partition):
            raise


def drop_partition(client: Any, collection: str, partition: str, *, loaded: bool) -> None:
    """Drop a partition with its rows; a server wants it released first, which Milvus Lite has no notion of."""
    if loaded:
        client.release_partitions(collection, [partition])
    client.drop_partition(collection, partition)


def search_width(k: int, width: int | None) -> dict[str, Any]:
    """How wide HNSW searches for k neighbours: more finds more of the true ones, and takes longer."""
    return {"search_params": {"params": {"ef": min(max(width or _WIDTH, k), _MOST_EF)}}}


def dimension_of(description: dict[str, Any]) -> int:
    """The dimension of the vectors of a described collection."""
    return int(next(field["params"]["dim"] for field in description["fields"] if field["name"] == "vector"))
