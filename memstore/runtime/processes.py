"""Worker processes with limits that are enforced from outside.

A worker reads one request per line from standard input and writes one response per line to standard output. The
parent kills a worker that misses its deadline and starts another one for the next request; it does the same after a
crash. No signals are used in the parent, so a pool works in any thread.

Parent side: `WorkerPool`. Child side: `serve`, which caps the worker's memory and ends it when its parent dies.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from memstore.errors import MemstoreError

START_TIMEOUT_S = 60.0
"""Seconds that a worker may take to start on a busy machine."""
READY = b"ready"
"""First line that a worker writes."""
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9


class WorkerError(MemstoreError):
    """A worker process does not start."""


class Worker:
    """One worker process, started by the first request. Use it from one thread at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""

    @property
    def pid(self) -> int | None:
        """Process id of the running worker; None if there is none."""
        return self._process.pid if self._process is not None else None

    def request(self, line: bytes, timeout_s: float) -> bytes | None:
        """Send a request and return the response line, or None if the worker timed out or died.

        Raises:
            WorkerError: the worker does not start.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            response = self._read_line(process, timeout_s)
            if response is not None:
                return response
        self.kill()
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as stderr:
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
            self._process, self._unread = process, b""
            if self._read_line(process, START_TIMEOUT_S) != READY:
                self.kill()
                stderr.seek(0)
                reason = stderr.read().decode(errors="replace").strip().rpartition("\n")[2] or "it wrote no error"
                raise WorkerError(
                    f"the worker process `{' '.join(self._command)}` did not start ({reason}); check the installation"
                )
        return process

    def _read_line(self, process: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
        assert process.stdout is not None
        stdout, deadline = process.stdout.fileno(), time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([stdout], [], [], remaining)[0]:
                return None
            chunk = os.read(stdout, 1 << 16)
            if not chunk:
                return None
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def kill(self) -> None:
        """Kill the process if it is running."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class WorkerPool:
    """Several workers that run the same command. Thread-safe.

    Example:
        pool = WorkerPool([sys.executable, "-m", "memstore_rl.verifiers.math_worker", "3.0"], count=2)
        pool.request_all([b'["0.5", "1/2"]'], timeout_s=60.0)  # [b'1']
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        """Nothing is started before the first request."""
        self.workers = tuple(Worker(command) for _ in range(count))
        self._idle = list(self.workers)
        self._idle_changed = threading.Condition()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker-pool")

    def request_all(self, lines: Sequence[bytes], timeout_s: float) -> list[bytes | None]:
        """Return the response to each request, in order; None as in `Worker.request`.

        Raises:
            WorkerError: a worker does not start.
        """
        return list(self._threads.map(lambda line: self._request(line, timeout_s), lines))

    def _request(self, line: bytes, timeout_s: float) -> bytes | None:
        with self._idle_changed:
            self._idle_changed.wait_for(lambda: bool(self._idle))
            worker = self._idle.pop()
        try:
            return worker.request(line, timeout_s)
        finally:
            with self._idle_changed:
                self._idle.append(worker)
                self._idle_changed.notify()

    def close(self) -> None:
        """Kill all workers. Later requests fail; calling it again does nothing."""
        self._threads.shutdown()
        for worker in self.workers:
            worker.kill()


def serve(handle: Callable[[str], str], *, memory_bytes: int, open_files: int | None = None) -> None:
    """Answer requests from standard input until it ends: the main loop of a worker process.

    On Linux the kernel kills the worker when the parent's thread that started it ends, which covers a parent that is
    killed while the worker computes.

    Args:
        handle: maps a request to a response, each one line without its end.
        memory_bytes: limit of the address space.
        open_files: limit of open files; None keeps the inherited one.
    """
    import ctypes
    import resource

    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    print(READY.decode(), flush=True)
    for line in sys.stdin:
        print(handle(line), flush=True)
