"""Worker processes that answer lines with lines, each held to a time limit from outside.

A worker that says nothing in time is killed and another one takes its place; so does one that died. Works in any
thread: no signal is used here. Processes start when first needed and end with `close`, or with this process.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from memstore.errors import MemstoreError

START_S = 60.0
"""Seconds that a worker may take to start on a busy machine."""


class WorkerFailed(MemstoreError):
    """A worker process does not start."""


class Worker:
    """One process; used by one thread at a time."""

    def __init__(self, command: Sequence[str], ready: bytes) -> None:
        self._command = list(command)
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""

    def ask(self, line: bytes, seconds: float) -> bytes | None:
        """The worker's answer to a line without its end, None where it gave none in time or died of it.

        Raises:
            WorkerFailed: it does not start.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            answer = self._line(process, seconds)
            if answer is not None:
                return answer
        self.kill()
        return None

    def _start(self) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as told:
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=told)
            self._process, self._rest = process, b""
            if self._line(process, START_S) != self._ready:
                self.kill()
                told.seek(0)
                reason = told.read().decode(errors="replace").strip().rpartition("\n")[2] or "it said nothing"
                raise WorkerFailed(f"the verifier's process does not start ({reason}); check the installation")
        return process

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
        assert process.stdout is not None
        number, deadline = process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([number], [], [], left)[0]:
                return None
            chunk = os.read(number, 1 << 16)
            if not chunk:
                return None
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def kill(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


class Workers:
    """Several workers of one kind. May be called from several threads at once."""

    def __init__(self, command: Sequence[str], ready: bytes, count: int) -> None:
        self._idle = [Worker(command, ready) for _ in range(count)]
        self._all = tuple(self._idle)
        self._free = threading.Condition()
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="verifier")

    def ask_all(self, lines: Sequence[bytes], seconds: float) -> list[bytes | None]:
        """The answer to each line, in their order; None as in `Worker.ask`."""
        return list(self._pool.map(lambda line: self._ask(line, seconds), lines))

    def _ask(self, line: bytes, seconds: float) -> bytes | None:
        with self._free:
            self._free.wait_for(lambda: bool(self._idle))
            worker = self._idle.pop()
        try:
            return worker.ask(line, seconds)
        finally:
            with self._free:
                self._idle.append(worker)
                self._free.notify()

    def close(self) -> None:
        """End all processes; what is asked afterwards fails."""
        self._pool.shutdown()
        for worker in self._all:
            worker.kill()
