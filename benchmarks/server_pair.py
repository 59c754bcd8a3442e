"""A Neo4j and a Milvus server for benchmarks, each behind a proxy whose connections can be cut.

A memory on the pair is the location `env` under the environment that `Pair.environment` gives; each namespace is a
memory of its own.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from memstore.testing.servers.milvus import MilvusServer
from memstore.testing.servers.neo4j import Neo4jServer
from memstore.testing.servers.neo4j import running as running_neo4j
from memstore.testing.servers.tcp_proxy import TcpProxy

LOCATION = "env"


class Pair(NamedTuple):
    """Two running servers and their proxies."""

    neo4j: Neo4jServer
    milvus: MilvusServer
    to_neo4j: TcpProxy
    to_milvus: TcpProxy
    folder: Path

    def environment(self) -> dict[str, str]:
        """Environment variables of a process that opens a new memory."""
        namespace = f"m-{uuid.uuid4().hex[:12]}"
        return {
            "MEMSTORE_NEO4J_URI": f"bolt://127.0.0.1:{self.to_neo4j.port}",
            "MEMSTORE_NEO4J_USER": self.neo4j.user,
            "MEMSTORE_NEO4J_PASSWORD": self.neo4j.password,
            "MEMSTORE_NEO4J_DATABASE": "neo4j",
            "MEMSTORE_MILVUS_URI": f"http://127.0.0.1:{self.to_milvus.port}",
            "MEMSTORE_NAMESPACE": namespace,
            "MEMSTORE_CACHE_FOLDER": str(self.folder / "caches" / namespace),
        }


@contextmanager
def running(folder: Path) -> Iterator[Pair]:
    """Start both in this folder; they stop at the end of the context."""
    with (
        running_neo4j(folder / "neo4j") as neo4j,
        MilvusServer(folder / "milvus") as milvus,
        TcpProxy(neo4j.port) as to_neo4j,
        TcpProxy(milvus.port) as to_milvus,
    ):
        yield Pair(neo4j, milvus, to_neo4j, to_milvus, folder)


@contextmanager
def named(environment: dict[str, str]) -> Iterator[None]:
    """Set the environment variables in this process within the context."""
    os.environ.update(environment)
    try:
        yield
    finally:
        for name in environment:
            del os.environ[name]
