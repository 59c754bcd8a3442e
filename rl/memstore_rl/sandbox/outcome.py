"""Resource limits of a program, and the outcome of running it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
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
NO_VERDICT: frozenset[Kind] = frozenset(["unsupported", "unreadable", "lost"])
"""Kinds that are not caused by the program: no reward."""

UNJUDGEABLE: frozenset[Kind] = frozenset(["timeout", "opaque", "output"])
"""Kinds of programs that exceed a limit of judging: 0, with a reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources that a program may use, for all its tests together."""

    cpu_seconds: int = 5
    wall_seconds: float = 15.0
    memory_mb: int = 1024
    """Address space in MiB, of the program and of its judge."""
    output_mb: int = 8
    """Output of a script, in MiB."""

    def rlimits(self, cpu_seconds: int | None = None) -> dict[str, int]:
        """Return the rlimits of a process: no file writes, no core dumps, 64 threads."""
        return {
            "RLIMIT_CPU": cpu_seconds or self.cpu_seconds,
            "RLIMIT_AS": self.memory_mb << 20,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_NPROC": 64,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
        }


class Outcome(NamedTuple):
    """Outcome of running a program against tests."""

    kind: Kind
    detail: str
    seconds: float

    @property
    def reward(self) -> float | None:
        """1 if the program passed, 0 if it did not, None without a verdict."""
        return None if self.kind in NO_VERDICT else float(self.kind == "passed")


def out_of_time(limits: Limits) -> tuple[Kind, str]:
    """Return the outcome of a program that exceeded the wall-clock limit."""
    return "timeout", f"more than {limits.wall_seconds:g} s"


def early_exit(ending: ExitStatus, cpu_limit: int) -> tuple[Kind, str]:
    """Return the outcome of a process that ended before its tests did."""
    if ending.signal is None:
        return "exited", f"it exited with code {ending.code} before its tests ended"
    if ending.signal == signal.SIGXCPU or (ending.signal == signal.SIGKILL and ending.cpu_seconds > cpu_limit - 0.5):
        return "timeout", f"more than {cpu_limit} s of processor time"
    if ending.signal == signal.SIGKILL:
        return "exited", "it closed the channel to its judge"
    return "crashed", f"killed by signal {ending.signal}"
