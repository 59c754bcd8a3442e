"""Fixtures every test may use."""

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

# hypothesis' own profile for CI, everywhere: no time limit on an example, and the same examples on each machine.
hypothesis.settings.load_profile("ci")

# A shell's background job ignores Ctrl-C, and what it starts inherits that; a handler is not inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_terminal_width() -> None:
    """Printed tables are as wide as in a pipe: pytest-xdist gives its workers a width of its own."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real rollouts that stands beside the project's; see its README."""
    folder = Path(os.environ.get("MEMSTORE_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "rollouts").is_dir():
        missing(f"no real rollouts at {folder}; set MEMSTORE_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def neo4j_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """A Neo4j server, one for all tests of a process; each test takes a namespace of its own."""
    with available(tmp_path_factory.mktemp("neo4j")) as login:
        if login is None:
            missing("no Neo4j server; set NEO4J_HOME to a distribution, or MEMSTORE_TEST_NEO4J_URI to a running one")
        yield login


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Milvus server, one for all tests of a process; each test takes a namespace of its own."""
    with milvus_server.available(tmp_path_factory.mktemp("milvus")) as uri:
        if uri is None:
            missing(f"no Milvus server ({milvus_server.why_not()}); set MEMSTORE_TEST_MILVUS_URI to a running one")
        yield uri


def missing(reason: str) -> NoReturn:
    """Skip what cannot be tested here; where CI=true that is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
