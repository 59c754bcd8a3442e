"""A memory of an earlier version, whose vector store has copies of the cache's vectors, is converted on first use."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from memstore.memory import Memory
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.conformance.memory_fixtures import SETTINGS, thinkings, write_rollouts
from memstore.testing.doubles.embedder import HashEmbedder
from memstore.testing.killed import KillServer
from memstore.types import VECTOR_KINDS
from memstore.vectors.embedded import FILE

NODES = 100 + 3 * 100


def open_memory(folder: Path, **options: bool) -> Memory:
    return Memory.open(folder, embedder=HashEmbedder(), settings=SETTINGS, **options)


def values(folder: Path) -> dict[str, int]:
    """How many rows of the vector store have a value of each type of SQLite."""
    with closing(sqlite3.connect(folder / "vectors" / FILE)) as database:
        return dict(database.execute("SELECT typeof(vector), count(*) FROM vectors GROUP BY 1"))


def layout(folder: Path) -> int:
    return int(json.loads((folder / "memstore.json").read_text())["memstore"])


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A memory as an earlier version left it, and its digest."""
    folder = tmp_path_factory.mktemp("earlier")
    with open_memory(folder / "m", create=True) as memory:
        memory.ingest([write_rollouts(folder / "rollouts.jsonl", range(100))])
        assert values(folder / "m") == {"text": NODES}
        digest = memory_digest(memory)
        for kind in VECTOR_KINDS:
            ids = [name for block in memory.vectors.ids(kind) for name in block]
            memory.vectors.upsert(kind, ids, memory.vectors.fetch(ids).vectors)
    with closing(sqlite3.connect(folder / "m" / "vectors" / FILE)) as database:
        database.execute("PRAGMA user_version = 0")
        database.execute("VACUUM")
    (folder / "m" / "memstore.json").write_text(json.dumps({"memstore": 1, "namespace": "default"}))
    assert values(folder / "m") == {"blob": NODES}
    return folder / "m", digest


@pytest.fixture
def copy(earlier: tuple[Path, dict[str, str]], tmp_path: Path) -> Path:
    shutil.copytree(earlier[0], tmp_path / "m")
    return tmp_path / "m"


@pytest.fixture(scope="module")
def server() -> Iterator[KillServer]:
    with KillServer() as server:
        yield server


def test_copies_become_keys_once(earlier: tuple[Path, dict[str, str]], copy: Path) -> None:
    before = (copy / "vectors" / FILE).stat().st_size
    with open_memory(copy) as memory:
        assert memory.vectors.count() == NODES
        assert memory_digest(memory) == earlier[1]
        assert memory.verify().ok
    assert values(copy) == {"text": NODES}
    assert layout(copy) == 2
    after = (copy / "vectors" / FILE).stat().st_size
    assert after < before - NODES * 4 * 32 / 2
    with open_memory(copy) as memory:
        memory.vectors.upsert("thinking", thinkings(memory)[:1], np.ones((1, 32), np.float32))
    with open_memory(copy) as memory:
        assert memory.vectors.count() == NODES
    assert values(copy) == {"blob": 1, "text": NODES - 1}, "the file is not read again"


def test_a_copy_that_differs_from_the_cache_stays_and_is_reported(copy: Path) -> None:
    with closing(sqlite3.connect(copy / "vectors" / FILE)) as database, database:
        database.execute("UPDATE vectors SET vector = zeroblob(128) WHERE id IN (SELECT id FROM vectors LIMIT 2)")
    with open_memory(copy) as memory:
        assert {problem.kind: problem.count for problem in memory.verify().problems} == {"changed_vector": 2}
        assert values(copy) == {"blob": 2, "text": NODES - 2}
        assert memory.verify(repair=True).ok
        assert values(copy) == {"text": NODES}


def test_copies_serve_where_the_cache_is_lost(earlier: tuple[Path, dict[str, str]], copy: Path) -> None:
    shutil.rmtree(copy / "embeddings")
    with open_memory(copy) as memory:
        assert memory_digest(memory) == earlier[1]
        assert values(copy) == {"blob": NODES}


def test_a_killed_conversion_is_finished_by_the_next_use(
    earlier: tuple[Path, dict[str, str]], copy: Path, server: KillServer, tmp_path: Path
) -> None:
    command = ["verify", "--memory"]
    whole = server.run("memstore_cli.main:run", [*command, str(copy)])
    assert whole.code == 0, whole.output
    assert "EmbeddedVectors.shrink" in whole.writes
    for before in range(1, len(whole.writes) + 1):
        folder = tmp_path / f"killed-{before}"
        shutil.copytree(earlier[0], folder)
        assert server.run("memstore_cli.main:run", [*command, str(folder)], before=before).killed
        with open_memory(folder) as memory:
            assert memory.vectors.count() == NODES
            assert memory_digest(memory) == earlier[1]
            assert memory.verify().ok
        assert values(folder) == {"text": NODES}
        assert layout(folder) == 2
