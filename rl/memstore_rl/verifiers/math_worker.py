r"""A process that compares formulas and does nothing else: `python -m memstore_rl.verifiers.math_worker SECONDS`.

It reads `[gold, answer]` a line from standard input and answers each with a line: `1` equal, `0` different, `g` the
gold cannot be read, `t` out of time. math-verify's own time limit is off: it needs signals of the main thread, which
a trainer's worker thread does not have. Here there is nothing but a main thread. What counts is the processor's time,
so that a busy machine changes no verdict. An operation that no handler interrupts (a power with millions of digits)
ends with the process, a second later.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import signal
import sys
import time
from types import FrameType
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

MEMORY = 1 << 30
READY = b"ready"
_LATEX = (LatexExtractionConfig(boxed_match_priority=0),)


class _OutOfTime(BaseException):
    """Not an Exception: sympy catches those on the way."""


def compare(gold: str, answer: str) -> str:
    """One letter, see the module."""
    read = _read(gold)
    if not read:
        return "g"
    return "1" if verify(read, _read(answer), timeout_seconds=None) else "0"


def _read(formula: str) -> list[Any]:
    boxed = "\\boxed{" + formula + "}"
    parsed: list[Any] = parse(boxed, _LATEX, fallback_mode="no_fallback", parsing_timeout=None)
    return parsed


def _stop(number: int, frame: FrameType | None) -> None:
    raise _OutOfTime


def main() -> None:
    """Serve until the input ends."""
    seconds = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    signal.signal(signal.SIGPROF, _stop)
    # The first formulas are slow: the parser's tables fill.
    compare("\\frac{x^2+1}{\\sqrt{2}}=(1,2]", "2x-\\{1, 3\\}")
    print(READY.decode(), flush=True)
    for line in sys.stdin:
        gold, answer = json.loads(line)
        try:
            resource.setrlimit(
                resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds + 1), resource.RLIM_INFINITY)
            )
            signal.setitimer(signal.ITIMER_PROF, seconds)
            said = compare(gold, answer)
        except (_OutOfTime, MemoryError, RecursionError):
            said = "t"
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        print(said, flush=True)


if __name__ == "__main__":
    main()
