"""Worker processes with limits that are enforced from outside.

A worker reads one request per line from standard input and writes one response per line to standard output. The
parent kills a worker that misses its deadline and starts another one for the next request; it does the same after a
crash. No signals are used in the parent, so a pool works in any thread.

Parent side: `WorkerPool`, which serves clients in turn, and the groups of requests of a client. Child side: `serve`,
which caps the worker's memory and ends it when its parent dies, and `run_forked`, which runs work in a child of the
worker that the kernel kills at its CPU limit.
"""

from __future__ import annotations

import itertools
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
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from memstore.errors import MemstoreError

START_TIMEOUT_S = 180.0
"""Seconds that a worker may take to start on a busy machine."""
TURN_SECONDS = 0.1
"""Clients and groups whose use of the workers differs by less are served in the order in which they came."""
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


_numbers = itertools.count()
_client: ContextVar[CpuAccount | None] = ContextVar("memstore_client", default=None)


@contextmanager
def charged_to(client: CpuAccount) -> Iterator[None]:
    """Count what the groups of this context use for a client, too: accounts that are created in it belong to it."""
    token = _client.set(client)
    try:
        yield
    finally:
        _client.reset(token)


@dataclass(eq=False)
class CpuAccount:
    """What the requests of one group, or of one client with several groups, have used."""

    seconds: float = 0.0
    """CPU seconds, see `charge`."""
    occupied: float = 0.0
    """Seconds that workers were busy with the group, added by the pool."""
    running: int = 0
    """Requests that a worker is handling now."""
    client: CpuAccount | None = field(default_factory=_client.get)
    """Account of the client that the group belongs to, see `charged_to`; None: the group is a client by itself."""
    number: int = field(default_factory=lambda: next(_numbers))
    """Order of creation."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def charge(self, seconds: float) -> None:
        """Add CPU seconds. The caller knows them from the responses."""
        with self._lock:
            self.seconds += seconds

    def note(self, running: int, occupied: float = 0.0) -> None:
        """Note that workers began or ended requests of the group, which were busy for some seconds."""
        with self._lock:
            self.running += running
            self.occupied += occupied
        if self.client is not None:
            self.client.note(running, occupied)

    @property
    def turn(self) -> tuple[int, ...]:
        """Whose turn it is: the smallest. The use of the client counts first, then that of the group."""
        return *(self.client or self)._use, *self._use

    @property
    def _use(self) -> tuple[int, int]:
        """Busy seconds in steps, with a second for each running request, and the order of creation."""
        return int((self.occupied + self.running) / TURN_SECONDS), self.number


@dataclass(eq=False)
class _Ticket(Generic[Item]):
    """A request that waits for an item or has one."""

    account: CpuAccount
    item: Item | None = None
    lent_at: float = 0.0


class FairQueue(Generic[Item]):
    """Lends a fixed set of items, such as workers, to clients and their groups in turn. Thread-safe.

    If all are lent, the next one that comes back goes to the waiting client that has used the least, within it to the
    group that has used the least, and to the oldest of these. A client whose requests are short therefore waits for
    one request of each other client at most, however many they have. The same holds for the groups of a client.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._idle = list(items)
        self._count = len(self._idle)
        self._waiting: list[_Ticket[Item]] = []
        self._changed = threading.Condition()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of requests that wait for an item."""
        return len(self._waiting)

    @contextmanager
    def borrow(self, account: CpuAccount) -> Iterator[Item | None]:
        """Wait for an item; None if the queue is closed."""
        ticket = _Ticket[Item](account)
        try:
            yield self._take(ticket)
        finally:
            self._give_back(ticket)

    def _take(self, ticket: _Ticket[Item]) -> Item | None:
        with self._changed:
            self._waiting.append(ticket)
            while ticket.item is None and not self._closed:
                self._lend()
                if ticket.item is None:
                    self._changed.wait()
            return ticket.item

    def _lend(self) -> None:
        """Give idle items to those whose turn it is.

        Those who wait do this, not the one who brings an item back: its next request may come before they wake.
        """
        while self._idle and self._waiting:
            ticket = min(self._waiting, key=lambda one: one.account.turn)
            self._waiting.remove(ticket)
            ticket.item, ticket.lent_at = self._idle.pop(), time.monotonic()
            ticket.account.note(1)
            self._changed.notify_all()

    def _give_back(self, ticket: _Ticket[Item]) -> None:
        with self._changed:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            if ticket.item is not None:
                ticket.account.note(-1, time.monotonic() - ticket.lent_at)
                self._idle.append(ticket.item)
            self._changed.notify_all()

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
