"""`Sandbox`: a pool that runs programs against tests, each in a pair of boxes.

One box of a pair runs the program and the other runs the tests (the judge); both are equally isolated. The host sends
the program to one and the tests to the other, and receives one line with the verdict, or the output of a script. Boxes
are reused; the processes in them never are. If all pairs are busy, the group that has used the least is next.

A sandbox failure is never a verdict. A lost box is rebuilt and the program runs once more; if no box can be built, that
is an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from memstore.errors import SandboxError
from memstore.runtime.processes import CpuAccount, FairQueue
from memstore_rl.sandbox.box import Box, BoxLost
from memstore_rl.sandbox.gold import CallTests, Tests
from memstore_rl.sandbox.outcome import Limits, Outcome
from memstore_rl.sandbox.run_calls import run_calls
from memstore_rl.sandbox.run_script import run_script

_ATTEMPTS = 2


class _Pair:
    """A box for the program and a box for its judge."""

    def __init__(self) -> None:
        self.program = Box()
        try:
            # EvalPlus tests import numpy, which takes longer than everything else; import it once per box.
            self.judge = Box(preload=("numpy",))
        except SandboxError:
            self.program.close()
            raise

    def close(self) -> None:
        self.program.close()
        self.judge.close()


@dataclass
class _Slot:
    """Room for a pair, which is built on demand."""

    pair: _Pair | None


class Sandbox:
    """Runs programs concurrently. Thread-safe, but not usable in a forked copy of the process.

    Example:
        with Sandbox() as sandbox:
            sandbox.run("def add(a, b): return a + b", read_tests("assert add(1, 2) == 3", query="")).kind  # 'passed'
    """

    def __init__(self, *, limits: Limits | None = None, pairs: int | None = None) -> None:
        """Build the first pair of boxes, which shows whether a sandbox can be built here.

        Args:
            limits: resources that a program may use; None: the defaults.
            pairs: number of programs that run at the same time; None: one per core available to this process.

        Raises:
            SandboxError: no sandbox can be built here; the message gives the reason and the fix.
        """
        first = _Pair()
        self.limits = limits or Limits()
        self.pairs = pairs or len(os.sched_getaffinity(0))
        self._owner = os.getpid()
        self._closed = False
        self._free = FairQueue([*(_Slot(None) for _ in range(self.pairs - 1)), _Slot(first)])

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, program: str, tests: Tests, account: CpuAccount | None = None) -> Outcome:
        """Run a program against tests.

        Args:
            account: account of the program's group: if all pairs are busy, the group that has used the least is next.

        Raises:
            SandboxError: the sandbox is closed, or can no longer be built.
        """
        started = time.monotonic()
        lost = ""
        for _ in range(_ATTEMPTS):
            try:
                with self._pair(account or CpuAccount()) as pair:
                    if isinstance(tests, CallTests):
                        kind, detail = run_calls(pair.program, pair.judge, self.limits, program, tests)
                    else:
                        kind, detail = run_script(pair.program, self.limits, program, tests)
            except BoxLost as error:
                lost = str(error)
                continue
            return Outcome(kind, detail, time.monotonic() - started)
        return Outcome("lost", f"its sandbox was lost {_ATTEMPTS} times: {lost}", time.monotonic() - started)

    def run_all(self, jobs: Sequence[tuple[str, Tests]]) -> list[Outcome]:
        """Run programs against their tests concurrently; return the outcomes in order. Those with the same tests are a
        group.

        Raises:
            SandboxError: the sandbox is closed, or can no longer be built.
        """
        if self.pairs == 1 or len(jobs) < 2:
            return [self.run(*job) for job in jobs]
        accounts = {tests: CpuAccount() for _, tests in jobs}
        with ThreadPoolExecutor(min(self.pairs, len(jobs)), thread_name_prefix="sandbox") as threads:
            return list(threads.map(lambda job: self.run(job[0], job[1], accounts[job[1]]), jobs))

    def close(self) -> None:
        """Close all boxes after their programs have ended; calling it again does nothing."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        for slot in self._free.close():
            if slot.pair is not None:
                slot.pair.close()

    @contextmanager
    def _pair(self, account: CpuAccount) -> Iterator[_Pair]:
        """Borrow a pair for one program. It is built on demand, and closed if the program raised."""
        closed = self._closed or os.getpid() != self._owner
        with nullcontext(None) if closed else self._free.borrow(account) as slot:
            if slot is None:
                raise SandboxError(
                    "this sandbox is closed, or belongs to the parent of this forked process; open another one"
                )
            pair, slot.pair = slot.pair or _Pair(), None
            try:
                yield pair
                slot.pair = pair
            finally:
                if slot.pair is None:
                    pair.close()
