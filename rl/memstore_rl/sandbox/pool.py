"""`Sandbox`: a pool that runs programs against tests, each in a pair of boxes.

One box of a pair runs the program and the other runs the tests (the judge); both are equally isolated. The host sends
the program to one and the tests to the other, and receives one line with the verdict, or the output of a script. Boxes
are reused; the processes in them never are. If all pairs are busy, the client that has used the least is next, and
within it the group that has used the least.

Programs with the same tests are a group, which has a budget of CPU time. All of them first run with a short limit, and
those that need more run again with a longer one, so that endless programs take nothing from the others of their group
and delay other groups little.

A sandbox failure is never a verdict. A lost box is rebuilt and the program runs once more. If its box is lost again, a
program that does nothing decides whose fault it is: if it runs, the program was lost by what it does, and if it does
not, or no box can be built, that is an error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from memstore.errors import SandboxError
from memstore.runtime.fair_queue import CpuAccount, FairQueue
from memstore_rl.sandbox.box import Box, BoxLost
from memstore_rl.sandbox.gold import CallTests, Tests
from memstore_rl.sandbox.outcome import SHORT_CPU_SECONDS, Kind, Limits, Outcome
from memstore_rl.sandbox.run_calls import run_calls
from memstore_rl.sandbox.run_script import run_script

_ATTEMPTS = 2
_MIN_CPU_SECONDS = 0.01
"""What must be left of a group's budget to run a program."""
_HARMLESS = ("def f(x): return x", CallTests(("f",), "assert f(1) == 1"))


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

    @property
    def cpu_seconds(self) -> float:
        """CPU time of all programs and judges so far."""
        return self.program.cpu_seconds + self.judge.cpu_seconds

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
        """Run a program against tests, at once with all that the limits allow.

        Args:
            account: account of the program's group: if all pairs are busy, the group that has used the least is next.

        Raises:
            SandboxError: the sandbox is closed, loses its boxes, or can no longer be built.
        """
        return self._run(program, tests, self.limits, account or CpuAccount())

    def run_all(self, jobs: Sequence[tuple[str, Tests]]) -> list[Outcome]:
        """Run programs against their tests concurrently; return the outcomes in order. Those with the same tests are a
        group, which has one budget.

        Raises:
            SandboxError: the sandbox is closed, loses its boxes, or can no longer be built.
        """
        accounts = {tests: CpuAccount() for _, tests in jobs}
        outcomes: dict[int, Outcome] = {}
        with ThreadPoolExecutor(max(1, min(self.pairs, len(jobs))), thread_name_prefix="sandbox") as threads:
            pending = list(range(len(jobs)))
            for limit in self._limits():
                ran = [threads.submit(self._run_within, *jobs[at], accounts[jobs[at][1]], limit) for at in pending]
                outcomes.update({at: future.result() for at, future in zip(pending, ran, strict=True)})
                pending = [at for at in pending if outcomes[at].kind == "timeout" and not outcomes[at].of_group]
        return [outcomes[at] for at in range(len(jobs))]

    def _limits(self) -> list[float]:
        """Limits of CPU time for the programs of a group, one after the other."""
        longest = self.limits.cpu_seconds
        return [*(limit for limit in SHORT_CPU_SECONDS if limit < longest), longest]

    def _run_within(self, program: str, tests: Tests, account: CpuAccount, limit: float) -> Outcome:
        """Run a program within a limit of CPU time and the rest of its group's budget."""
        left = self.limits.group_cpu_seconds - account.seconds
        spent = f"its group has used up {self.limits.group_cpu_seconds:g} s of processor time"
        if left < _MIN_CPU_SECONDS:
            return Outcome("timeout", spent, 0.0, of_group=True)
        outcome = self._run(program, tests, self.limits.within(min(limit, left)), account)
        if outcome.kind == "timeout" and left < limit:
            return outcome._replace(detail=spent, of_group=True)
        return outcome

    def _run(self, program: str, tests: Tests, limits: Limits, account: CpuAccount) -> Outcome:
        started = time.monotonic()
        lost = ""
        for _ in range(_ATTEMPTS):
            try:
                kind, detail = self._run_once(program, tests, limits, account)
            except BoxLost as error:
                lost = str(error)
                account.charge(limits.cpu_seconds)
                continue
            return Outcome(kind, detail, time.monotonic() - started)
        try:
            self._run_once(*_HARMLESS, limits, CpuAccount(client=account.client))
        except BoxLost as error:
            raise SandboxError(
                f"the boxes of the sandbox end with every program ({error}); free memory, or raise this container's "
                "limit"
            ) from error
        return Outcome("lost", f"its sandbox was lost {_ATTEMPTS} times: {lost}", time.monotonic() - started)

    def _run_once(self, program: str, tests: Tests, limits: Limits, account: CpuAccount) -> tuple[Kind, str]:
        """Run a program, charge its group for it, and return kind and detail of the outcome.

        Raises:
            BoxLost: a box was lost.
        """
        with self._pair(account) as pair:
            before, started = pair.cpu_seconds, time.monotonic()
            if isinstance(tests, CallTests):
                found = run_calls(pair.program, pair.judge, limits, program, tests)
            else:
                found = run_script(pair.program, limits, program, tests)
            account.charge(limits.charge(pair.cpu_seconds - before, time.monotonic() - started))
        return found

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
