"""A private Neo4j server for tests and benchmarks, started from a distribution.

`NEO4J_HOME` names the distribution: a folder with `bin/neo4j` and `bin/neo4j-admin`, as it is downloaded. Nothing is
written there: configuration, data and logs lie in a folder of the caller's, and the server listens on a free port of
the loopback interface only. It ends with `stop`; one that was killed starts again on the same data and port.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from memstore.testing.servers.ports import free_port

START_SECONDS = 280.0
"""An idle machine needs six."""
STOP_SECONDS = 60.0
_JVM_OPTIONS = "-XX:TieredStopAtLevel=1"
"""A server of a test lives for a minute: the second compiler would cost more than it saves, 2 s a start."""


class Neo4jServer:
    """A server in `folder`; start it with `start` or as a context manager."""

    user = "neo4j"

    def __init__(
        self, home: Path, folder: Path, *, heap: str = "1g", settings: Mapping[str, str] | None = None
    ) -> None:
        """Prepare the folder; `settings` are lines of neo4j.conf beside our own."""
        self.home = home
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_hex(12)  # one that began with "-" would be an option
        self._heap = heap
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "conf").mkdir(parents=True, exist_ok=True)
        self.configure(settings or {})
        self._run_admin("dbms", "set-initial-password", self.password)

    @property
    def uri(self) -> str:
        """Address of the server."""
        return f"bolt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process of the running server."""
        return self._process.pid if self._process is not None else None

    def configure(self, settings: Mapping[str, str]) -> None:
        """Write neo4j.conf; it takes effect at the next start."""
        lines = {
            "server.directories.data": str(self.folder / "data"),
            "server.directories.logs": str(self.folder / "logs"),
            "server.directories.import": str(self.folder / "import"),
            "server.directories.transaction.logs.root": str(self.folder / "data" / "transactions"),
            "server.bolt.listen_address": f"127.0.0.1:{self.port}",
            "server.bolt.advertised_address": f"127.0.0.1:{self.port}",
            "server.memory.pagecache.size": "256m",
            "db.tx_log.preallocate": "false",
            "db.tx_log.rotation.retention_policy": "256M size",
            "dbms.usage_report.enabled": "false",
            # Its threads wait so long for further requests, one pool after the other, before a stop: 10 s by default.
            "internal.server.bolt.thread_pool_shutdown_wait_time": "0s",
            **settings,
        }
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.folder / "conf" / "neo4j.conf").write_text(text, encoding="utf-8")

    def start(self, *, file_bytes: int | None = None) -> None:
        """Start it and wait until it serves.

        Args:
            file_bytes: limit of the size of each file, which acts as a full disk.

        Raises:
            RuntimeError: it ended or did not start in time; the message has the end of its output.
        """
        command = [str(self.home / "bin" / "neo4j"), "console"]
        if file_bytes is not None:
            command = ["prlimit", f"--fsize={file_bytes}", *command]
        output = self.folder / "console.log"
        begin = output.stat().st_size if output.exists() else 0
        with output.open("ab") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=self.environment())
        deadline = time.monotonic() + START_SECONDS
        while b"Started." not in (output_text := output.read_bytes()[begin:]):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(
                    f"the Neo4j of {self.home} did not start: {output_text[-2000:].decode('utf-8', 'replace')}"
                )
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server cleanly; does nothing if it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server (kill -9)."""
        self._end(signal.SIGKILL)

    def _end(self, with_signal: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(with_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _run_admin(self, *arguments: str) -> None:
        command = [str(self.home / "bin" / "neo4j-admin"), *arguments]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"neo4j-admin {arguments[0]} failed: {(done.stdout + done.stderr)[-2000:]}")

    def environment(self) -> dict[str, str]:
        """Environment of the server and of its neo4j-admin."""
        conf = str(self.folder / "conf")
        options = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} {_JVM_OPTIONS}".strip()
        own = {"NEO4J_HOME": str(self.home), "NEO4J_CONF": conf, "HEAP_SIZE": self._heap}
        return {**os.environ, **own, "JAVA_TOOL_OPTIONS": options}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def home() -> Path | None:
    """The distribution that NEO4J_HOME names; None if it is not set.

    Raises:
        RuntimeError: the folder it names is no distribution of Neo4j.
    """
    value = os.environ.get("NEO4J_HOME")
    if not value:
        return None
    folder = Path(value).resolve()
    if not (folder / "bin" / "neo4j").is_file():
        raise RuntimeError(f"NEO4J_HOME is {folder}, and there is no bin/neo4j in it; name a Neo4j distribution")
    return folder


class Login(NamedTuple):
    """Address and credential of a test server."""

    uri: str
    user: str
    password: str


@contextmanager
def running(folder: Path, *, heap: str = "1g") -> Iterator[Neo4jServer]:
    """A server from NEO4J_HOME in this folder, for as long as the context lasts."""
    distribution = home()
    if distribution is None:
        raise RuntimeError("NEO4J_HOME is not set; name a folder with a Neo4j distribution")
    with Neo4jServer(distribution, folder, heap=heap) as server:
        yield server


@contextmanager
def available(folder: Path) -> Iterator[Login | None]:
    """A server to test against: that of MEMSTORE_TEST_NEO4J_URI, _USER and _PASSWORD, else one from NEO4J_HOME.

    None where neither is named.
    """
    if uri := os.environ.get("MEMSTORE_TEST_NEO4J_URI"):
        user = os.environ.get("MEMSTORE_TEST_NEO4J_USER", Neo4jServer.user)
        yield Login(uri, user, os.environ["MEMSTORE_TEST_NEO4J_PASSWORD"])
    elif home() is None:
        yield None
    else:
        with running(folder) as server:
            yield Login(server.uri, server.user, server.password)
