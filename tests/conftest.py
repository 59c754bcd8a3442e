"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest

from memstore.testing import milvus_server
from memstore.testing.neo4j_server import Login, available

pytest.register_assert_rewrite("memstore.testing.memory_conformance", "memstore.testing.vector_conformance")

ROOT = Path(__file__).resolve().parent.parent

# hypothesis' CI profile everywhere: no time limit for an example, and the same examples on every machine.
hypothesis.settings.load_profile("ci")

# One OpenMP thread in each xdist worker and in what it starts: more threads than cores spin while they wait for one
# another. On two busy cores the tests of training took 42 s with one thread each and more than 280 s with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A background job of a shell ignores Ctrl-C, and its child processes inherit that; they do not inherit a handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_terminal_width() -> None:
    """Unset COLUMNS, so that printed tables are as wide as in a pipe; pytest-xdist sets it for its workers."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rollouts beside the project's folder; see its README."""
    folder = Path(os.environ.get("MEMSTORE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "rollouts").is_dir():
        missing(f"no real rollouts at {folder}; set MEMSTORE_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def neo4j_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """A Neo4j server, shared by the tests of a process; each test uses its own namespace."""
    with available(tmp_path_factory.mktemp("neo4j")) as login:
        if login is None:
            missing("no Neo4j server; set NEO4J_HOME to a distribution, or MEMSTORE_TEST_NEO4J_URI to a running one")
        yield login


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Milvus server, shared by the tests of a process; each test uses its own namespace."""
    with milvus_server.available(tmp_path_factory.mktemp("milvus")) as uri:
        if uri is None:
            missing(f"no Milvus server ({milvus_server.why_not()}); set MEMSTORE_TEST_MILVUS_URI to a running one")
        yield uri


def missing(reason: str) -> NoReturn:
    """Skip a test that cannot run on this machine; with CI=true, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
