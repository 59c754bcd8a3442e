"""Layout of a Milvus collection: one per embedder, one partition per namespace.

Fields: `id` (namespace and node id, so that two projects with the same rollout do not share a row), `scope` (namespace
and kind) and `vector`. The partition is named, not computed from `scope` as a partition key, because Milvus 2.3.5
assigns upserted rows to partitions by their id instead of their key, and a search by the key misses them (measured:
92 of 6,000 found). Every scan and search is restricted by `Share.within`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, NamedTuple

from memstore.types import VectorKind

PREFIX = "memstore_"
_NAME_LENGTH = 300
_HNSW = {"M": 16, "efConstruction": 200}
_WIDTH, _MOST_EF = 128, 32_768


class Share(NamedTuple):
    """The part of a collection that belongs to one namespace."""

    namespace: str
    partition: str

    @classmethod
    def of(cls, namespace: str) -> Share:
        """The share of a namespace; the partition name is readable and unique per namespace."""
        readable = re.sub(r"[^A-Za-z0-9]", "_", namespace)[:64]
        digest = hashlib.sha256(namespace.encode()).hexdigest()[:16]
        return cls(namespace, f"ns_{readable}_{digest}")

    def key(self, name: str) -> str:
        """Stored id of a node."""
        return f"{self.namespace}/{name}"

    def name(self, key: str) -> str:
        """Node id of a stored id."""
        return key[len(self.namespace) + 1 :]

    def scope(self, kind: VectorKind) -> str:
        """Value of the field `scope` for this kind."""
        return f"{self.namespace}/{kind}"

    def within(self, kind: VectorKind) -> dict[str, Any]:
        """Arguments that restrict a query or a search to this namespace and kind."""
        return {"filter": f'scope == "{self.scope(kind)}"', "partition_names": [self.partition]}


def make_collection(client: Any, name: str, dimension: int) -> None:
    """Create the collection and its HNSW index."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=_NAME_LENGTH)
    schema.add_field("scope", DataType.VARCHAR, max_length=_NAME_LENGTH)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="HNSW", metric_type="COSINE", params=_HNSW)
    # Strong consistency: a process that opens the store next reads every acknowledged row. Linking right after an
    # ingest, and `verify`, would otherwise miss the last rows. It costs a wait for the server's next time tick (0.2 s)
    # per call, and calls are large.
    client.create_collection(name, schema=schema, consistency_level="Strong")
    # Loading waits for the index; waiting here would poll every half second.
    client.create_index(name, indexes, sync=False)


def make_partition(client: Any, collection: str, partition: str) -> None:
    """Create the partition if it does not exist, also while another process creates it."""
    from pymilvus.exceptions import MilvusException

    if client.has_partition(collection, partition):
        return
    try:
        client.create_partition(collection, partition)
    except MilvusException:
        if not client.has_partition(collection, partition):
            raise


def drop_partition(client: Any, collection: str, partition: str) -> None:
    """Drop a partition with its rows; a server requires that it is released first."""
    client.release_partitions(collection, [partition])
    client.drop_partition(collection, partition)


def search_width(k: int, width: int | None) -> dict[str, Any]:
    """Search parameters of HNSW for k neighbours: a larger width finds more of the true ones and takes longer."""
    return {"search_params": {"params": {"ef": min(max(width or _WIDTH, k), _MOST_EF)}}}


def dimension_of(description: dict[str, Any]) -> int:
    """Vector dimension in the description of a collection."""
    return int(next(field["params"]["dim"] for field in description["fields"] if field["name"] == "vector"))
