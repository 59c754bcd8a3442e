"""Functions that are killed (kill -9) before one of their writes or after a time, or that run out of disk space.

A `KillServer` is a process that has the packages loaded. It forks a process for each call, so that a call costs no
start, and files, locks and connections are left behind as after a crash.

A write is a call of one of `WRITES`: a transaction, a write to a vector store or a cache, a file that is written,
renamed or deleted. A run without a kill returns the writes that it made, in their order; `before=3` kills the process
just before the third of them. In these processes the embedders `hash` and `hash-DIMENSION` are `HashEmbedder`s.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self

from memstore.embedding.protocol import Embedder
from memstore.testing.doubles.embedder import HashEmbedder

WRITES = (
    "memstore.graph.ladybug.database:Database.transaction",
    "memstore.graph.ladybug.database:Database.checkpoint",
    "memstore.graph.ladybug.wal_recovery:WriteAheadLog.record_length",
    "memstore.vectors.embedded:EmbeddedVectors.upsert",
    "memstore.vectors.embedded:EmbeddedVectors.delete",
    "memstore.vectors.embedded:EmbeddedVectors.discard",
    "memstore.vectors.embedded:EmbeddedVectors.flush",
    "memstore.vectors.embedded:EmbeddedVectors.shrink",
    "memstore.embedding.cache:VectorCache.append",
    "memstore.snapshots.folder:_write_table",
    "memstore.snapshots.folder:_write_matrix",
    "memstore.snapshots.folder:_write_arrays",
    "pathlib:Path.write_bytes",
    "pathlib:Path.write_text",
    "shutil:copyfile",
    "os:mkdir",
    "os:rename",
    "os:replace",
    "os:rmdir",
    "os:truncate",
    "os:unlink",
)
"""The calls before which a process can be killed, as `module:name`."""
PRELOADED = (
    "memstore.graph.ladybug",
    "memstore.memory",
    "memstore.graph.find",
    "memstore.vectors.embedded",
    "memstore.vectors.knn.blocked",
    "memstore_cli.main",
    "memstore_gnn.verbs",
)
"""Modules that the server loads, so that no process has to; one that is not installed is left out."""


class Ended(NamedTuple):
    """How a process ended."""

    code: int
    """Exit code: what the function returned if that is an integer, or -9 after a kill."""
    output: str
    """What it printed, with its errors."""
    writes: list[str]
    """The writes that it made, by name; empty after a kill."""
    seconds: float
    """Time between the call of the function and the end of the process."""

    @property
    def killed(self) -> bool:
        """Whether it was killed before the function returned."""
        return self.code == -signal.SIGKILL


class KillServer:
    """Calls functions in processes of their own, and kills them; a context manager. Linux only: it waits for pidfds."""

    def __init__(self) -> None:
        """Start the server; it loads the packages at the first call."""
        command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(
        self,
        function: str,
        *arguments: Any,
        before: int | None = None,
        after_s: float | None = None,
        file_bytes: int | None = None,
    ) -> Ended:
        """Call a function and wait for the end of its process.

        Args:
            function: `module:name` of a function, such as `memstore_cli.main:run`.
            arguments: passed to it; values of JSON.
            before: kill the process just before this write, counted from 1.
            after_s: kill the process this many seconds after the call.
            file_bytes: no file may become longer than this, as on a full disk.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([function, arguments, before, after_s, file_bytes]) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the server."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _serve() -> None:
    """Answer the calls on stdin until it is closed."""
    for name in [name for name in os.environ if name.startswith("MEMSTORE_")]:
        del os.environ[name]
    os.environ["MEMSTORE_EMBEDDER"] = "hash"
    for module in PRELOADED:
        with suppress(ModuleNotFoundError):
            importlib.import_module(module)
    _use_hash_embedders()
    for line in sys.stdin:
        print(json.dumps(_run(*json.loads(line))), flush=True)


def _run(
    function: str, arguments: Sequence[Any], before: int | None, after_s: float | None, file_bytes: int | None
) -> Ended:
    with tempfile.TemporaryDirectory() as folder:
        output, writes = Path(folder) / "output", Path(folder) / "writes"
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _call(function, arguments, before, file_bytes, output, writes, writer)
        os.close(writer)
        os.read(reader, 1)  # the function is called now, or the process has ended
        os.close(reader)
        started = time.monotonic()
        handle = os.pidfd_open(child)
        ends = select.poll()
        ends.register(handle, select.POLLIN)
        if not ends.poll(None if after_s is None else 1000 * after_s):
            os.kill(child, signal.SIGKILL)
        os.close(handle)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seconds = time.monotonic() - started
        made = json.loads(writes.read_text()) if writes.exists() else []
        return Ended(code, output.read_text(errors="replace") if output.exists() else "", made, seconds)


def _call(
    function: str,
    arguments: Sequence[Any],
    before: int | None,
    file_bytes: int | None,
    output: Path,
    writes: Path,
    begun: int,
) -> NoReturn:
    """Call the function in this process, which ends with its result."""
    code = 1
    try:
        with output.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # the server reads its calls there
        called = pkgutil.resolve_name(function)
        made = _watch_writes(before)
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
        os.write(begun, b"b")
        result = called(*arguments)
        count = len(made)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writes.write_text(json.dumps(made[:count]))
        code = result if isinstance(result, int) else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch_writes(kill_before: int | None) -> list[str]:
    """Record each write from now on in the list that is returned; kill this process before the given one."""
    writes: list[str] = []

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watching(*arguments: Any, **options: Any) -> Any:
            writes.append(name.partition(":")[2])
            if len(writes) == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return watching

    for name in WRITES:
        module, _, path = name.partition(":")
        *owners, method = path.split(".")
        owner = pkgutil.resolve_name(".".join([f"{module}:{owners[0]}", *owners[1:]])) if owners else None
        owner = importlib.import_module(module) if owner is None else owner
        setattr(owner, method, watched(name, getattr(owner, method)))
    return writes


def _use_hash_embedders() -> None:
    """Load `HashEmbedder`s by name in place of sentence-transformers models."""
    from memstore.embedding import minilm

    def load(name: str = "hash", **_: Any) -> Embedder:
        return HashEmbedder(int(name.partition("-")[2] or 32))

    minilm.load_embedder = load  # type: ignore[assignment]
