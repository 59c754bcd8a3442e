"""What a program may use, and what it came to."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from memstore_rl.sandbox.box import ExitStatus

Kind: TypeAlias = Literal[
    "passed",  # every test
    "failed",  # an assertion did not hold, or the output is another one
    "raised",  # an exception, in the program or in tests that were given what it returned
    "load",  # the program does not compile, or raises while it is loaded, or lacks the function
    "exited",  # it ended, or let go of its judge, before the tests did
    "crashed",  # a signal killed it: not one of the limits'
    "timeout",  # out of processor time, or of time by the clock
    "opaque",  # it returned something that is no plain value
    "output",  # it printed more than it may
    "forged",  # it wrote to its judge what is no answer to the question asked
    "unsupported",  # the tests cannot be run across the border of two processes
    "unreadable",  # the tests fail by themselves, or never call the program
    "lost",  # its box was lost, and the next one too
]
KINDS: tuple[Kind, ...] = get_args(Kind)
NO_VERDICT: frozenset[Kind] = frozenset(["unsupported", "unreadable", "lost"])
"""Not the program's doing, as far as anybody can tell: no reward."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a program may use, all its tests together."""

    cpu_seconds: int = 5
    wall_seconds: float = 15.0
    memory_mb: int = 1024
    """Address space; of its judge as well."""
    output_mb: int = 8
    """Of what a script prints."""

    def rlimits(self, cpu_seconds: int | None = None) -> dict[str, int]:
        """The kernel's limits for a process: no file of any size, no core, 64 threads."""
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
    """What a program came to."""

    kind: Kind
    detail: str
    seconds: float

    @property
    def reward(self) -> float | None:
        """1 for a program that passed, 0 for one that did not, None where there is no verdict on it."""
        return None if self.kind in NO_VERDICT else float(self.kind == "passed")


def out_of_time(limits: Limits) -> tuple[Kind, str]:
    """It was stopped by the clock."""
    return "timeout", f"more than {limits.wall_seconds:g} s"


def early_exit(ending: ExitStatus, cpu_limit: int) -> tuple[Kind, str]:
    """What a process came to that ended before it should have."""
    if ending.signal is None:
        return "exited", f"it exited with code {ending.code} before its tests were through"
    if ending.signal == signal.SIGXCPU or (ending.signal == signal.SIGKILL and ending.cpu_seconds > cpu_limit - 0.5):
        return "timeout", f"more than {cpu_limit} s of processor time"
    if ending.signal == signal.SIGKILL:
        return "exited", "it let go of its judge"
    return "crashed", f"killed by signal {ending.signal}"
