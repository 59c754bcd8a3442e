"""Profiles of a Neo4j and a Milvus server, with new namespaces for each test."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from memstore.testing.servers.neo4j import Login


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neo4j_login: Login, milvus_uri: str) -> None:
    """A working folder whose memstore.toml has two namespaces, `one` and `two`, on the same servers."""
    tables = []
    for name in ("one", "two"):
        tables += [
            f"[profiles.{name}]",
            f'neo4j_uri = "{neo4j_login.uri}"',
            f'neo4j_user = "{neo4j_login.user}"',
            'neo4j_password_env = "TEST_NEO4J_PASSWORD"',
            'neo4j_database = "neo4j"',
            f'milvus_uri = "{milvus_uri}"',
            f'namespace = "{name}-{uuid.uuid4().hex[:8]}"',
            'cache_folder = "local"',
        ]
    work = tmp_path / "work"
    work.mkdir()
    (work / "memstore.toml").write_text("\n".join(tables) + "\n")
    monkeypatch.setenv("TEST_NEO4J_PASSWORD", neo4j_login.password)
    monkeypatch.chdir(work)
