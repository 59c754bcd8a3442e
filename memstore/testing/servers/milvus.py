"""A private Milvus server for tests and benchmarks, started from the PyPI package `milvus`.

The package contains the standalone server 2.3.5 for Linux on x86_64; its Python code is not run. The server writes to
the caller's folder only. It listens on nine ports inside a network namespace (see `milvus_relay`) and is reachable at
one free port of 127.0.0.1. A server that was killed starts again on the same data and port.
"""

from __future__ import annotations

import importlib.util
import lzma
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from memstore.testing.servers.milvus_relay import SERVING
from memstore.testing.servers.ports import free_port

START_SECONDS = 280.0
"""An idle machine needs ten."""
STOP_SECONDS = 20.0
_FASTER = {"proxy.timeTickInterval": "20"}
"""A read with strong consistency waits for the next tick; Milvus's default of 200 ms is half of the time of a test."""
_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)(?:\(\w+\))?(?::\s*(.*?))?\s*\}\}")
_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")


class MilvusServer:
    """A server in `folder`; start it with `start` or as a context manager."""

    def __init__(self, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        """Unpack the server into `folder`.

        Args:
            settings: Milvus's own, by dotted name, as `common.security.authorizationEnabled`.

        Raises:
            RuntimeError: it cannot run on this machine; see `why_not`.
        """
        reason, package = why_not(), _package()
        if reason is not None or package is None:
            raise RuntimeError(reason)
        self.folder = folder
        self.port = free_port()
        self._settings = {**_FASTER, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("bin", "configs", "data", "logs"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        _unpack(package / "bin", folder / "bin")
        shutil.copy(package / "glog.conf", folder / "configs")
        self._configure(package / "config.yaml.template")

    @property
    def uri(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Leader of the process group of the running server."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start it and wait until it serves.

        Raises:
            RuntimeError: it ended or did not start in time; the message has the end of its output.
        """
        output = self.folder / "console.log"
        with socket.socket() as listener, output.open("ab") as stream:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self.port))
            listener.listen()
            relay = [sys.executable, "-m", "memstore.testing.servers.milvus_relay", str(listener.fileno())]
            self._process = subprocess.Popen(
                [*_NAMESPACE, *relay, str(self.folder / "bin" / "milvus"), "run", "standalone"],
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        if not self._wait_until_serving():
            self.kill()
            end = output.read_bytes()[-2000:].decode("utf-8", "replace")
            raise RuntimeError(f"the Milvus server in {self.folder} did not start: {end}")

    def stop(self) -> None:
        """Stop the server cleanly; does nothing if it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the server (kill -9)."""
        self._end(signal.SIGKILL)

    def _wait_until_serving(self) -> bool:
        output = self._process.stdout if self._process is not None else None
        assert output is not None
        readable, _, _ = select.select([output], [], [], START_SECONDS)
        return bool(readable) and output.readline() == SERVING

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        os.killpg(process.pid, with_signal)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.read()  # ends when the server has ended too and released its locks on the data
        process.stdin.close()
        process.stdout.close()

    def _configure(self, template: Path) -> None:
        """Write the package's configuration with its defaults and this server's folders."""
        ours = {
            "etcd_log_path": "stdout",
            "etcd_data_dir": str(self.folder / "data" / "etcd"),
            "local_storage_dir": str(self.folder / "data"),
            "rocksmq_data_dir": str(self.folder / "data" / "rocksmq"),
            "system_log_path": str(self.folder / "logs"),
        }
        text = template.read_text(encoding="utf-8")
        filled = _PLACEHOLDER.sub(lambda match: ours.get(match[1], match[2] or ""), text)
        (self.folder / "configs" / "milvus.yaml").write_text(filled, encoding="utf-8")

    def _environment(self) -> dict[str, str]:
        """Environment of the server: Milvus reads each setting from a variable in capitals, with `_` for the dots."""
        settings = {name.replace(".", "_").upper(): value for name, value in self._settings.items()}
        return {
            **os.environ,
            **settings,
            "DEPLOY_MODE": "STANDALONE",
            "MILVUSCONF": str(self.folder / "configs"),
            "LD_LIBRARY_PATH": str(self.folder / "bin"),
            "MILVUS_RUN_DIR": str(self.folder / "run"),
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Milvus takes a quarter of a minute to stop cleanly, and the data are no longer needed.
        self.kill()


def why_not() -> str | None:
    """Why no server can be started on this machine; None if one can."""
    if _package() is None:
        return "the package `milvus` is not installed (Linux on x86_64 only): pip install milvus==2.3.5"
    made = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"a Milvus server runs in a network namespace, and none can be created: {made.stderr.strip()}"
    return None


@contextmanager
def available(folder: Path) -> Iterator[str | None]:
    """Address of the server for tests: MEMSTORE_TEST_MILVUS_URI, else one started here; None if that is impossible."""
    if uri := os.environ.get("MEMSTORE_TEST_MILVUS_URI"):
        yield uri
    elif why_not() is not None:
        yield None
    else:
        with MilvusServer(folder) as server:
            yield server.uri


def _package() -> Path | None:
    """The folder of the server's files in the installed package."""
    found = importlib.util.find_spec("milvus")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "data"


def _unpack(packed: Path, target: Path) -> None:
    def unpack(source: Path) -> None:
        unpacked = target / source.stem
        if unpacked.exists():
            return
        with lzma.open(source) as stream, (target / f"{source.stem}.part").open("wb") as part:
            shutil.copyfileobj(stream, part)
        os.chmod(part.name, 0o755)
        os.replace(part.name, unpacked)

    with ThreadPoolExecutor() as pool:
        list(pool.map(unpack, packed.glob("*.lzma")))
