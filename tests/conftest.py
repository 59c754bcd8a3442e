"""Fixtures for all tests."""

from __future__ import annotations

import datetime as dt
import fnmatch
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from memstore.testing.servers import milvus
from memstore.testing.servers.neo4j import Login, available

pytest.register_assert_rewrite("memstore.testing.conformance.memory", "memstore.testing.conformance.vectors")

ROOT = Path(__file__).resolve().parent.parent

# hypothesis' CI profile everywhere: no time limit for an example, and the same examples on every machine.
hypothesis.settings.load_profile("ci")

# One OpenMP thread in each xdist worker and in what it starts: more threads than cores spin while they wait for one
# another. On two busy cores the tests of training took 42 s with one thread each and more than 280 s with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A background job of a shell ignores Ctrl-C, and its child processes inherit that; they do not inherit a handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SHARED = {
    "neo4j and milvus": (
        "tests/memstore/servers/*",
        "tests/memstore/vectors/test_milvus_server_links.py",
        "tests/memstore/vectors/test_vector_conformance.py",
    ),
    "neo4j": ("tests/memstore/graph/test_neo4j_[!f]*",),  # those of faults and of foreign servers start their own
    "a browser": ("tests/rl/inspector/*",),
    "ray": (
        "tests/rl/trainers/verl/test_gauge_in_verl.py",
        "tests/rl/trainers/verl/test_verdict_mode_in_verl.py",
        "tests/rl/trainers/verl/test_with_verl_itself.py",
    ),
    "a milvus server that is harmed": (
        "tests/memstore/vectors/test_milvus_server.py",
        "tests/memstore/vectors/test_milvus_server_faults.py",
    ),
}
"""Files whose tests share servers or fixtures that take seconds to start."""
LONGEST = (
    "neo4j and milvus",
    "ray",
    "a browser",
    "tests/memstore/graph/test_neo4j_faults.py",
    "tests/rl/service/test_retraining.py",
    "tests/docs/test_commands_of_the_docs.py",
    "tests/benchmarks/test_policy_learning.py",
    "tests/examples/test_learn_from_memory.py",
    "neo4j",
    "a milvus server that is harmed",
)
"""The groups that take longest, in the order in which they are started."""


def group_of(file: str) -> str:
    """The group of a file, such as `tests/schema/test_migrations.py`: a name of SHARED, or the file itself."""
    for name, patterns in SHARED.items():
        if any(fnmatch.fnmatch(file, pattern) for pattern in patterns):
            return name
    return file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Distribute whole groups, in the order of the collection, whatever `--dist` says.

    `--dist loadgroup` would do this with marks, but pytest 9.2 makes xdist 3.8 ignore them without a word: both workers
    then start every server, run the demo and train the models of every fixture.
    """
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False
    scheduler = LoadScopeScheduling(config, log)
    scheduler._split_scope = lambda nodeid: group_of(nodeid.split("::", 1)[0])
    return scheduler


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start the long groups first, so that no worker ends with one while the others have nothing left to do."""
    if hasattr(config, "workerinput"):
        slow = {_group(item) for item in items if item.get_closest_marker("slow")}

        def turn(item: pytest.Item) -> int:
            group = _group(item)
            if group in LONGEST:
                return LONGEST.index(group)
            return len(LONGEST) + (group not in SHARED and group not in slow)

        items.sort(key=turn)


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


class Servers:
    """Servers that the tests of a group share. They stop with its last test, since idle ones take a third of a core."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._running = ExitStack()
        self._found: dict[str, Any] = {}

    def get(self, name: str, start: Callable[[], AbstractContextManager[Any]]) -> Any:
        """What `start` yields: the running server of this name, else a new one; None if there is none to start."""
        if name not in self._found:
            self._found[name] = self._running.enter_context(start())
        return self._found[name]

    def stop(self) -> None:
        """Stop all; the next `get` starts one anew."""
        self._found.clear()
        self._running.close()


SERVERS = Servers()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Stop the shared servers once the next test is of another group, after the fixtures of this one have ended."""
    try:
        return (yield)
    finally:
        if nextitem is None or _group(nextitem) != _group(item):
            SERVERS.stop()


def _group(item: pytest.Item) -> str:
    return group_of(item.nodeid.split("::", 1)[0])


@pytest.fixture(scope="session")
def shared_servers() -> Servers:
    """Servers of the group of tests that runs."""
    return SERVERS


@pytest.fixture
def neo4j_login(tmp_path_factory: pytest.TempPathFactory) -> Login:
    """A Neo4j server, shared by the tests of a group; each test uses its own namespace."""
    login: Login | None = SERVERS.get("neo4j", lambda: available(tmp_path_factory.mktemp("neo4j")))
    if login is None:
        missing("no Neo4j server; set NEO4J_HOME to a distribution, or MEMSTORE_TEST_NEO4J_URI to a running one")
    return login


@pytest.fixture(scope="session")
def milvus_can_run() -> None:
    """A test that starts a Milvus server of its own is skipped, or fails in CI, where none can run."""
    if (reason := milvus.why_not()) is not None:
        missing(reason)


@pytest.fixture
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Milvus server, shared by the tests of a group; each test uses its own namespace."""
    uri: str | None = SERVERS.get("milvus", lambda: milvus.available(tmp_path_factory.mktemp("milvus")))
    if uri is None:
        missing(f"no Milvus server ({milvus.why_not()}); set MEMSTORE_TEST_MILVUS_URI to a running one")
    return uri


@pytest.fixture
def jumping_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """A wall clock that jumps by up to a year, back or ahead, whenever it is read; returns its reading."""
    chance, real, real_datetime = random.Random(0), time.time, dt.datetime

    def jumped() -> float:
        return real() + chance.choice((-1, 1)) * chance.uniform(3600, 366 * 86400)

    class AsReal(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, real_datetime)

    class Jumping(real_datetime, metaclass=AsReal):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
            return real_datetime.fromtimestamp(jumped(), tz)

    monkeypatch.setattr(time, "time", jumped)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumped() * 1e9))
    monkeypatch.setattr(dt, "datetime", Jumping)
    return jumped


def missing(reason: str) -> NoReturn:
    """Skip a test that cannot run on this machine; with CI=true, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
