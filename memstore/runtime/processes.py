"""Worker processes with limits that are enforced from outside.

A worker reads one request per line from standard input and writes one response per line to standard output. The
parent kills a worker that misses its deadline and starts another one for the next request; it does the same after a
crash. No signals are used in the parent, so a pool works in any thread.

Parent side: `WorkerPool`, which serves clients in turn (`fair_queue`). Child side: `serve`, which caps the worker's
memory and ends it when its parent dies, and `run_forked`, which runs work in a child of the worker that the kernel
kills at its CPU limit.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple, TypeVar

from memstore.errors import MemstoreError
from memstore.runtime.fair_queue import CpuAccount, FairQueue

START_TIMEOUT_S = 180.0
"""Seconds that a worker may take to start on a busy machine."""
READY = b"ready"
"""First line that a worker writes."""
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9

Item = TypeVar("Item")


class WorkerError(MemstoreError):
    """A worker process does not start."""


class Worker:
    """One worker process, started by the first request. Use it from one thread at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self.starts = 0
        """How often a process was started."""

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
            process = _start_in_lasting_thread(self._command, stderr.fileno())
            self._process, self._unread = process, b""
            self.starts += 1
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
        chunks = [self._unread]
        while b"\n" not in chunks[-1]:
            remaining = deadline - time.monotonic()
            try:
                if remaining <= 0 or not select.select([stdout], [], [], remaining)[0]:
                    return None
                chunk = os.read(stdout, 1 << 16)
            except OSError:
                if self._process is process:
                    raise
                return None  # another thread has killed the process and closed its streams
            if not chunk:
                return None
            chunks.append(chunk)
        line, _, self._unread = b"".join(chunks).partition(b"\n")
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


_starters: dict[int, ThreadPoolExecutor] = {}
"""By process id: a forked child does not inherit the thread."""


def _start_in_lasting_thread(command: Sequence[str], stderr: int) -> subprocess.Popen[bytes]:
    """Start a worker in a thread that lasts as long as this process.

    The kernel ends a worker when the thread that started it ends (`PR_SET_PDEATHSIG`). The thread that makes the
    first request may be one of a batch, which ends while the worker is still needed.
    """
    starter = _starters.setdefault(os.getpid(), ThreadPoolExecutor(1, thread_name_prefix="worker-start"))
    return starter.submit(
        subprocess.Popen, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
    ).result()


class WorkerPool:
    """Several workers that run the same command, lent by a `FairQueue`. Thread-safe.

    Example:
        pool = WorkerPool([sys.executable, "-m", "memstore_rl.verifiers.math_worker"], count=2)
        pool.request(b'["0.5", "1/2", 3.0]', timeout_s=60.0)  # b'1 0.012'
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        """Nothing is started before the first request."""
        self.workers = tuple(Worker(command) for _ in range(count))
        self._queue = FairQueue(self.workers)

    def request(self, line: bytes, timeout_s: float, account: CpuAccount | None = None) -> bytes | None:
        """Return the response to a request; None as in `Worker.request`.

        Args:
            account: account of the request's group, which decides who is served first; the caller adds CPU seconds.

        Raises:
            WorkerError: a worker does not start, or the pool is closed.
        """
        with self._queue.borrow(account or CpuAccount()) as worker:
            if worker is None:
                raise WorkerError("this pool of worker processes is closed; create another one")
            return worker.request(line, timeout_s)

    def close(self) -> None:
        """Kill all workers. Later requests fail; calling it again does nothing."""
        for worker in self._queue.close():
            worker.kill()


class Forked(NamedTuple):
    """What a forked child did."""

    results: list[str]
    """Of the first items, in order."""
    killed: bool
    """Whether it was killed at a limit of CPU time, during the item after the last result."""
    crashed: bool
    """Whether it ended in another way during that item."""
    cpu_seconds: float


def run_forked(
    work: Callable[[Item], str], items: Sequence[Item], *, seconds: float, total: float, turn: float
) -> Forked:
    """Run a function on items in a forked child, which the kernel kills at a limit of CPU time, also inside C code.

    The child starts from this process's state and leaves nothing behind in it. Call it from a process with one thread.

    Args:
        work: returns one line.
        seconds: limit of CPU time for each item.
        total: limit for all items.
        turn: no item is begun after this CPU time.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            die_with_parent()
            _work_off(work, items, writer, seconds, total, turn)
            os._exit(0)
        except BaseException:
            # Whatever a hostile input made the work raise: no result is the answer.
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        *results, _ = file.read().decode().split("\n")
    _, status, usage = os.wait4(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF
    return Forked(results, killed, status != 0 and not killed, usage.ru_utime + usage.ru_stime)


def _work_off(
    work: Callable[[Item], str], items: Sequence[Item], writer: int, seconds: float, total: float, turn: float
) -> None:
    # The timer's signal ends the process at once, whatever it is doing: no handler has to run.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    begun = time.process_time()
    with os.fdopen(writer, "wb") as file:
        for item in items:
            used = time.process_time() - begun
            if used >= min(turn, total):
                return
            signal.setitimer(signal.ITIMER_PROF, min(seconds, total - used))
            line = work(item)
            signal.setitimer(signal.ITIMER_PROF, 0)
            file.write(line.encode() + b"\n")
            file.flush()


def die_with_parent(parent: int | None = None) -> None:
    """On Linux, let the kernel kill this process when the thread that started it ends.

    Args:
        parent: process id of the parent. If it has ended already, which the kernel does not tell, this process ends.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), _SIGKILL)


def serve(handle: Callable[[str], str], *, memory_bytes: int | None, open_files: int | None = None) -> None:
    """Answer requests from standard input until it ends: the main loop of a worker process.

    On Linux the kernel kills the worker when its parent ends, which covers a parent that is killed while the worker
    computes.

    Args:
        handle: maps a request to a response, each one line without its end.
        memory_bytes: limit of the address space; None sets none.
        open_files: limit of open files; None keeps the inherited one.
    """
    import resource

    die_with_parent()
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    print(READY.decode(), flush=True)
    for line in sys.stdin:
        print(handle(line), flush=True)
