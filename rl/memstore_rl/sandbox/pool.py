"""`Sandbox`: programs run against tests, each in a pair of boxes of its own for that time.

One box of a pair runs the program, the other one its judge; both are equally shut off. The host hands the program to
the one and the tests to the other, and what comes back to it is one line of verdict, or what a script printed. Boxes
are kept warm; the processes in them are never used twice.

Trouble with a box is never a verdict: a box that is lost is built again and the program run once more, and where no
box can be built any more that is an error.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from memstore.errors import SandboxError
from memstore_rl.sandbox.box import Box, BoxLost
from memstore_rl.sandbox.gold import CallTests, Tests
from memstore_rl.sandbox.outcome import Limits, Outcome
from memstore_rl.sandbox.run_calls import run_calls
from memstore_rl.sandbox.run_script import run_script

_TRIES = 2


class _Pair:
    """A box for the program and one for its judge."""

    def __init__(self) -> None:
        self.program = Box()
        try:
            # Tests of the EvalPlus kind import numpy, which takes longer than all else: once for all of them.
            self.judge = Box(preload=("numpy",))
        except SandboxError:
            self.program.close()
            raise

    def close(self) -> None:
        self.program.close()
        self.judge.close()


class Sandbox:
    """Runs programs, several at a time. Any thread may use it; a forked copy of the process may not.

    Example:
        with Sandbox() as sandbox:
            sandbox.run("def add(a, b): return a + b", read_tests("assert add(1, 2) == 3", query="")).kind  # 'passed'
    """

    def __init__(self, *, limits: Limits | None = None, pairs: int | None = None) -> None:
        """Build the first pair of boxes, and so find out whether any can be built.

        Args:
            pairs: programs that run at the same time; None: one for each core that this process may use.

        Raises:
            SandboxError: no sandbox can be built here; the message says why and what helps.
        """
        first = _Pair()
        self.limits = limits or Limits()
        self.pairs = pairs or len(os.sched_getaffinity(0))
        self._owner = os.getpid()
        self._closed = False
        self._free: queue.LifoQueue[_Pair | None] = queue.LifoQueue()
        for _ in range(self.pairs - 1):
            self._free.put(None)
        self._free.put(first)

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, program: str, tests: Tests) -> Outcome:
        """Run one program against tests.

        Raises:
            SandboxError: the sandbox is closed, or cannot be built any more.
        """
        begun = time.monotonic()
        lost = ""
        for _ in range(_TRIES):
            try:
                with self._pair() as pair:
                    if isinstance(tests, CallTests):
                        kind, detail = run_calls(pair.program, pair.judge, self.limits, program, tests)
                    else:
                        kind, detail = run_script(pair.program, self.limits, program, tests)
            except BoxLost as error:
                lost = str(error)
                continue
            return Outcome(kind, detail, time.monotonic() - begun)
        return Outcome("lost", f"its sandbox was lost {_TRIES} times: {lost}", time.monotonic() - begun)

    def run_all(self, jobs: Sequence[tuple[str, Tests]]) -> list[Outcome]:
        """Run each program against its tests, as many at a time as there are pairs; outcomes in the same order.

        Raises:
            SandboxError: the sandbox is closed, or cannot be built any more.
        """
        if self.pairs == 1 or len(jobs) < 2:
            return [self.run(*job) for job in jobs]
        with ThreadPoolExecutor(min(self.pairs, len(jobs)), thread_name_prefix="sandbox") as threads:
            return list(threads.map(lambda job: self.run(*job), jobs))

    def close(self) -> None:
        """End all boxes, once the programs in them have ended; calling it again does nothing."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        for _ in range(self.pairs):
            pair = self._free.get()
            if pair is not None:
                pair.close()

    @contextmanager
    def _pair(self) -> Iterator[_Pair]:
        """A pair for one program; built if it is not there, let go of if it was not returned in order."""
        if self._closed or os.getpid() != self._owner:
            raise SandboxError(
                "this sandbox is closed, or belongs to the process this one was forked from; open another"
            )
        pair = self._free.get()
        kept: _Pair | None = None
        try:
            pair = pair or _Pair()
            yield pair
            kept = pair
        finally:
            if kept is None and pair is not None:
                pair.close()
            self._free.put(kept)
