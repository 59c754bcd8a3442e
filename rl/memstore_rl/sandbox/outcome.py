"""Resource limits of a program, and the outcome of running it."""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, get_args

from memstore_rl.sandbox.box import ExitStatus

Kind: TypeAlias = Literal[
    "passed",  # all tests
    "failed",  # an assertion failed, or the output differs
    "raised",  # an exception, in the program or in the tests after the program's first result
    "load",  # the program does not compile, raises while loading, or lacks the function
    "exited",  # the program ended or closed its channel before the tests did
    "crashed",  # killed by a signal that is not a limit's
    "timeout",  # out of CPU time or wall-clock time
    "opaque",  # it returned a value that cannot be transferred
    "output",  # it printed too much
    "forged",  # it sent the judge a message that does not answer the pending call
    "unsupported",  # the tests cannot run across two processes
    "unreadable",  # the tests fail by themselves, or never call the program
    "lost",  # the box was lost twice
]
KINDS: tuple[Kind, ...] = get_args(Kind)
NO_VERDICT: frozenset[Kind] = frozenset(["unsupported", "unreadable"])
"""Kinds that are not caused by the program: no reward."""

UNJUDGEABLE: frozenset[Kind] = frozenset(["timeout", "opaque", "output", "lost"])
"""Kinds of programs that exceed a limit of judging: 0, with a reason."""
SHORT_CPU_SECONDS = (0.25, 1.0)
"""First limits of CPU time of the programs of a group, one after the other. Most programs need a few hundredths."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources that a program may use, for all its tests together."""

    cpu_seconds: float = 5.0
    wall_seconds: float = 15.0
    group_cpu_seconds: float = 40.0
    """CPU time of all programs with the same tests, and of their judges. A program that waits for longer than its
    first limit allows is charged for that in the proportion of the limits of wall-clock and CPU time."""
    memory_mb: int = 1024
    """Address space in MiB, of the program and of its judge."""
    output_mb: int = 8
    """Output of a script, in MiB."""

    def rlimits(self, cpu_seconds: float) -> dict[str, int]:
        """Return the kernel's limits of a process: no file writes, no core dumps, 64 threads.

        The limit of CPU time is in whole seconds and stands behind the box's own.
        """
        return {
            "RLIMIT_CPU": math.ceil(cpu_seconds) + 1,
            "RLIMIT_AS": self.memory_mb << 20,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_NPROC": 64,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }

    def within(self, cpu_seconds: float) -> Limits:
        """Return these limits with less CPU time, and less wall-clock time in proportion."""
        if cpu_seconds >= self.cpu_seconds:
            return self
        return replace(self, cpu_seconds=cpu_seconds, wall_seconds=self.wall_seconds * cpu_seconds / self.cpu_seconds)

    def charge(self, cpu_seconds: float, wall_seconds: float) -> float:
        """Return what a program that used this is charged."""
        waited = wall_seconds * self.cpu_seconds / self.wall_seconds
        return max(cpu_seconds, waited) if waited > SHORT_CPU_SECONDS[0] else cpu_seconds


class Outcome(NamedTuple):
    """Outcome of running a program against tests."""

    kind: Kind
    detail: str
    seconds: float
    of_group: bool = False
    """Whether the budget of its group decided it: it may differ in another group."""

    @property
    def reward(self) -> float | None:
        """1 if the program passed, 0 if it did not, None without a verdict."""
        return None if self.kind in NO_VERDICT else float(self.kind == "passed")


def out_of_time(limits: Limits) -> tuple[Kind, str]:
    """Return the outcome of a program that exceeded the wall-clock limit."""
    return "timeout", f"more than {limits.wall_seconds:g} s"


def early_exit(ending: ExitStatus, cpu_limit: float) -> tuple[Kind, str]:
    """Return the outcome of a process that ended before its tests did."""
    if ending.signal is None:
        return "exited", f"it exited with code {ending.code} before its tests ended"
    if ending.out_of_time or ending.signal == signal.SIGXCPU:
        return "timeout", f"more than {cpu_limit:g} s of processor time"
    if ending.signal == signal.SIGKILL:
        return "exited", "it closed the channel to its judge"
    return "crashed", f"killed by signal {ending.signal}"
