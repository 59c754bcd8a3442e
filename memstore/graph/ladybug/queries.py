"""Run user queries in processes that can be killed, so that every query keeps its limits of time and memory.

A query that reads runs in a process that opens the database read-only beside its owner. LadybugDB allows that as long
as the file does not change while it is read, so the caller holds the store's lock until `run` returns. The result is
complete by then; its rows are transferred block by block, and later writes do not change them. A query that writes
runs in a process that opens the database read-write, while the owner has closed it.

Processes are kept for the next query. One costs 0.1 s of processor time to start, and opening the database 0.02 s.
"""

from __future__ import annotations

import base64
import io
import pickle
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from memstore.errors import InputError, MemstoreError, StoreError
from memstore.graph.ladybug import cypher
from memstore.graph.ladybug.query_process import Block, Close, Failure, Next, Opening, Query
from memstore.runtime.processes import Worker, WorkerError

MEMORY_BYTES = 2**30
"""Memory that a query may use beside the buffer pool."""
GRACE_S = 0.2
"""Seconds after its time limit at which a query is killed; LadybugDB ends most queries itself before."""
IDLE_PROCESSES = 2
"""Processes that are kept for later queries."""
OPENING_S = 600.0
"""Seconds that opening may take: a long write-ahead log is replayed first."""
CLOSED = "the rows of this query can no longer be read: its memory is closed"
_NO_LIMIT_S = 365 * 24 * 3600.0
_COMMAND = (sys.executable, "-W", "ignore", "-c", "from memstore.graph.ladybug.query_process import main; main()")


class QueryProcesses:
    """Processes that run queries on the database of one folder. Thread-safe."""

    def __init__(self, folder: Path, buffer_pool_bytes: int) -> None:
        """Nothing is started before the first query."""
        self._folder, self._buffer_pool_bytes = folder.resolve(), buffer_pool_bytes
        self._lock = threading.RLock()  # a result may be dropped, by the garbage collector, at any line
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        # The kernel kills a worker when the thread that started it ends, so a thread of this pool starts them.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="cypher")
        self.closed = False

    def run(
        self, query: str, parameters: Mapping[str, Any], *, write: bool, timeout_s: float | None
    ) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """Columns and rows of a query.

        Raises:
            InputError: the query or a parameter is invalid.
            QueryTimeout: the query ran past `timeout_s` seconds; its process was ended.
            StoreError: the query needs too much memory, or LadybugDB crashed.
        """
        try:
            request = _line(Query(query, dict(parameters), timeout_s))
        except Exception as error:  # whatever pickling a caller's object raises
            raise InputError(f"a parameter of the query cannot be passed to the graph: {error}") from error
        worker = self._open(read_only=not write)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        block = self._ask(worker, request, query, deadline, timeout_s)
        rows = self._rows(worker, block, query, deadline, timeout_s)
        next(rows)  # started, so that dropping it returns the process
        return block.columns, rows

    def _open(self, *, read_only: bool) -> Worker:
        """A process that has the database open."""
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or Worker(_COMMAND)
        opening = _line(Opening(str(self._folder), self._buffer_pool_bytes, MEMORY_BYTES, read_only))
        for attempt in (worker, Worker(_COMMAND)):  # an idle process may have been killed by somebody else
            with self._lock:
                self._busy.discard(worker)
                self._busy.add(attempt)
            worker = attempt
            try:
                answer = None if self.closed else self._starter.submit(worker.request, opening, OPENING_S).result()
            except WorkerError as error:
                self._end(worker)
                raise StoreError(CLOSED if self.closed else str(error)) from error
            except BaseException:
                self._end(worker)
                raise
            if answer is not None:
                break
        else:
            self._end(worker)
            raise StoreError(
                CLOSED if self.closed else f"the process that queries the graph in {self._folder} does not start"
            )
        failure = _answer(answer)
        if isinstance(failure, (MemstoreError, Failure)):
            self._end(worker)
            raise (
                failure
                if isinstance(failure, MemstoreError)
                else StoreError(f"the graph in {self._folder} cannot be opened for a query: {failure.message}")
            )
        return worker

    def _ask(self, worker: Worker, request: bytes, text: str, deadline: float | None, timeout_s: float | None) -> Block:
        """The next block, or the error of the query."""
        try:
            wait_s = _NO_LIMIT_S if deadline is None else max(0.0, deadline - time.monotonic()) + GRACE_S
            line = worker.request(request, wait_s)
        except BaseException:
            self._end(worker)
            raise
        if line is None:
            self._end(worker)
            if self.closed:
                raise StoreError(CLOSED)
            if deadline is not None and time.monotonic() >= deadline:
                raise cypher.timeout(timeout_s)
            raise StoreError(cypher.TOO_MUCH_MEMORY)
        answer = _answer(line)
        if isinstance(answer, Block):
            return answer
        if self.closed:  # the process failed because the database was closed while it began
            self._end(worker)
            raise StoreError(CLOSED)
        if isinstance(answer, Failure) and "bad_alloc" not in answer.message:
            self._give_back(worker)
        else:
            self._end(worker)
        raise (
            answer
            if isinstance(answer, MemstoreError)
            else cypher.translate(answer.kind, answer.message, text, timeout_s)
        )

    def _rows(
        self, worker: Worker, block: Block, text: str, deadline: float | None, timeout_s: float | None
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a result, after an empty one."""
        if not block.more:
            self._give_back(worker)
        try:
            yield ()
            while True:
                for row in block.rows:
                    if self.closed:
                        raise StoreError(CLOSED)
                    if deadline is not None and time.monotonic() > deadline:
                        raise cypher.timeout(timeout_s)
                    yield row
                if not block.more:
                    return
                block = self._ask(worker, _line(Next()), text, deadline, timeout_s)
                if not block.more:
                    self._give_back(worker)
        finally:
            if worker in self._busy and block.more:
                self._drop(worker)

    def _drop(self, worker: Worker) -> None:
        """Close a result that is not read to its end."""
        if worker.request(_line(Close()), GRACE_S) is None:
            self._end(worker)
        else:
            self._give_back(worker)

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
            keep = not self.closed and len(self._idle) < IDLE_PROCESSES
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.kill()

    def _end(self, worker: Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
        worker.kill()

    def close(self) -> None:
        """End all processes; rows that are not read yet are lost."""
        with self._lock:
            self.closed = True
            workers = [*self._idle, *self._busy]
            self._idle, self._busy = [], set()
        for worker in workers:
            with suppress(OSError):
                worker.kill()
        self._starter.shutdown(wait=False)


class _Unpickler(pickle.Unpickler):
    """Reads answers, which hold plain values, times and the classes of the protocol only."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse every other class."""
        if module in ("datetime", "memstore.errors") or (module, name) in _ANSWERS:
            return getattr(sys.modules[module], name)
        raise StoreError(f"the process that queries the graph sent {module}.{name}")


_ANSWERS = {(kind.__module__, kind.__name__) for kind in (Block, Failure)}


def _line(request: Any) -> bytes:
    return base64.b64encode(pickle.dumps(request))


def _answer(line: bytes) -> Any:
    return _Unpickler(io.BytesIO(base64.b64decode(line))).load()
