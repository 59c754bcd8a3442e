"""Worker processes with limits that are enforced from outside.

A worker reads one request per line from standard input and writes one response per line to standard output. The
parent kills a worker that misses its deadline and starts another one for the next request; it does the same after a
crash. No signals are used in the parent, so a pool works in any thread.

Parent side: `WorkerPool`. Child side: `serve`, which caps the worker's memory and ends it when its parent dies, and
`run_forked`, which handles one request in a child of the worker that the kernel kills at its CPU limit.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from memstore.errors import MemstoreError

START_TIMEOUT_S = 60.0
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
            if remaining <= 0 or not select.select([stdout], [], [], remaining)[0]:
                return None
            chunk = os.read(stdout, 1 << 16)
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


@dataclass(eq=False)
class CpuAccount:
    """What the requests of one group have used."""

    seconds: float = 0.0
    """CPU seconds, added by the caller, who knows them from the responses."""
    occupied: float = 0.0
    """Seconds that workers were busy with the group, added by the pool."""
    running: int = 0
    """Requests that a worker is handling now."""

    @property
    def use(self) -> float:
        """What decides whose turn it is: busy seconds, with one for each running request."""
        return self.occupied + self.running


class FairQueue(Generic[Item]):
    """Lends a fixed set of items, such as workers, to groups in turn. Thread-safe.

    If all are lent, the next one that comes back goes to the waiting group that has used the least, and the longest
    waiting of these. Many slow requests of a group therefore delay another group by one request at most.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._idle = list(items)
        self._count = len(self._idle)
        self._waiting: list[CpuAccount] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of requests that wait for an item."""
        return len(self._waiting)

    @contextmanager
    def borrow(self, account: CpuAccount) -> Iterator[Item | None]:
        """Wait for an item; None if the queue is closed."""
        item = self._take(account)
        if item is None:
            yield None
            return
        started = time.monotonic()
        try:
            yield item
        finally:
            with self._changed:
                account.occupied += time.monotonic() - started
                account.running -= 1
                self._idle.append(item)
                self._changed.notify_all()

    def _take(self, account: CpuAccount) -> Item | None:
        with self._changed:
            self._waiting.append(account)
            try:
                self._changed.wait_for(lambda: self._closed or (self._idle and self._next() is account))
                if self._closed:
                    return None
                account.running += 1
                return self._idle.pop()
            finally:
                self._waiting.remove(account)
                self._changed.notify_all()

    def _next(self) -> CpuAccount:
        return min(self._waiting, key=lambda account: account.use)

    def close(self) -> list[Item]:
        """Lend nothing more, and return all items once they are back."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: len(self._idle) == self._count)
            return list(self._idle)


class WorkerPool:
    """Several workers that run the same command, lent by a `FairQueue`. Thread-safe.

    Example:
        pool = WorkerPool([sys.executable, "-m", "memstore_rl.verifiers.math_worker"], count=2)
        pool.request_all([b'["0.5", "1/2", 3.0]'], timeout_s=60.0)  # [b'1 0.012']
    """

    def __init__(self, command: Sequence[str], count: int) -> None:
        """Nothing is started before the first request."""
        self.workers = tuple(Worker(command) for _ in range(count))
        self._queue = FairQueue(self.workers)

    def request_all(self, lines: Sequence[bytes], timeout_s: float) -> list[bytes | None]:
        """Return the response to each request, in order; None as in `Worker.request`.

        Raises:
            WorkerError: a worker does not start.
        """
        if not lines:
            return []
        with ThreadPoolExecutor(min(len(self.workers), len(lines)), thread_name_prefix="worker-pool") as threads:
            return list(threads.map(lambda line: self.request(line, timeout_s), lines))

    def request(self, line: bytes, timeout_s: float, account: CpuAccount | None = None) -> bytes | None:
        """Return the response to a request; None as in `Worker.request`.

        Args:
            account: account of the request's group, which decides who is served first. The caller adds the CPU seconds.

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


class ForkedResult(NamedTuple):
    """What a forked child returned."""

    result: str | None
    """None if the child was killed or raised an exception."""
    cpu_seconds: float


def run_forked(work: Callable[[], str], cpu_seconds: float) -> ForkedResult:
    """Run a function in a forked child, which the kernel kills after `cpu_seconds` of CPU time, also inside C code.

    The child starts from the parent's state and leaves nothing behind in it. Call it from a process with one thread.

    Args:
        work: returns one line.
        cpu_seconds: limit of the child's CPU time.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            # The timer's signal ends the process at once, whatever it is doing: no handler has to run.
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            _die_with_parent()
            with os.fdopen(writer, "wb") as file:
                file.write(work().encode())
            os._exit(0)
        except BaseException:
            # Whatever a hostile input made the work raise: no result is the answer.
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        result = file.read()
    _, status, usage = os.wait4(child, 0)
    return ForkedResult(result.decode() if status == 0 else None, usage.ru_utime + usage.ru_stime)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)


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

    _die_with_parent()
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if open_files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    print(READY.decode(), flush=True)
    for line in sys.stdin:
        print(handle(line), flush=True)
