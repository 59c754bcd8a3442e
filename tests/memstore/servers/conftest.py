"""A Neo4j server, a server that speaks Milvus, and a profile for a namespace of its own in each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from memstore.testing import neo4j_server
from memstore.vectors.lite import start_lite


class Neo4jAddress(NamedTuple):
    """Where a Neo4j server is, and who may use it."""

    uri: str
    user: str
    password: str


@pytest.fixture(scope="session")
def neo4j_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neo4jAddress]:
    """A running server: MEMSTORE_TEST_NEO4J_URI (with _USER, _PASSWORD), else one started from NEO4J_HOME."""
    uri = os.environ.get("MEMSTORE_TEST_NEO4J_URI")
    if uri:
        user, password = (os.environ[f"MEMSTORE_TEST_NEO4J_{name}"] for name in ("USER", "PASSWORD"))
        yield Neo4jAddress(uri, user, password)
        return
    if neo4j_server.home() is None:
        pytest.skip("no Neo4j to test against; set NEO4J_HOME to a distribution, or MEMSTORE_TEST_NEO4J_URI")
    with neo4j_server.running(tmp_path_factory.mktemp("neo4j")) as server:
        yield Neo4jAddress(server.uri, server.user, server.password)


@pytest.fixture(scope="session")
def milvus_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Milvus Lite's own gRPC server: the protocol of a Milvus server, reached by its address as one."""
    server = start_lite(tmp_path_factory.mktemp("milvus"))
    yield server.uri
    server.stop()


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neo4j_address: Neo4jAddress, milvus_address: str) -> None:
    """A working folder whose memstore.toml has two namespaces of one pair of servers: `one` and `two`."""
    tables = []
    for name in ("one", "two"):
        tables += [
            f"[profiles.{name}]",
            f'neo4j_uri = "{neo4j_address.uri}"',
            f'neo4j_user = "{neo4j_address.user}"',
            'neo4j_password_env = "TEST_NEO4J_PASSWORD"',
            'neo4j_database = "neo4j"',
            f'milvus_uri = "{milvus_address}"',
            f'namespace = "{name}-{uuid.uuid4().hex[:8]}"',
            'cache_folder = "local"',
        ]
    work = tmp_path / "work"
    work.mkdir()
    (work / "memstore.toml").write_text("\n".join(tables) + "\n")
    monkeypatch.setenv("TEST_NEO4J_PASSWORD", neo4j_address.password)
    monkeypatch.chdir(work)
