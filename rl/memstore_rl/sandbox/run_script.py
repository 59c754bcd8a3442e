"""Runs tests with input and output: the program runs once per case, in a new process each time.

The host compares the output as text. The program never receives the expected output.
"""

from __future__ import annotations

import json
import math
import os
import time

from memstore_rl.sandbox.box import Box, ExitStatus, sealed_memfd
from memstore_rl.sandbox.gold import ScriptTests
from memstore_rl.sandbox.outcome import Kind, Limits, early_exit, out_of_time
from memstore_rl.sandbox.reading import read_until

_CLOSE = 1e-6
_NUMBER_LENGTH = 40


def run_script(box: Box, limits: Limits, program: str, tests: ScriptTests) -> tuple[Kind, str]:
    """Run the program for each case until one fails; return kind and detail of the outcome.

    Raises:
        BoxLost: the box was lost.
    """
    deadline = time.monotonic() + limits.wall_seconds
    spent = 0.0
    for number, case in enumerate(tests.cases, start=1):
        cpu_limit = limits.cpu_seconds - spent
        if cpu_limit <= 0:
            return "timeout", f"more than {limits.cpu_seconds:g} s of processor time before case {number}"
        stdout = _start(box, cpu_limit, limits, program, case.given)
        try:
            printed = read_until(stdout, deadline, limits.output_mb << 20)
        finally:
            os.close(stdout)
        ending = None if printed.late or printed.long else box.wait(deadline - time.monotonic())
        stopped = ending is None
        ending = ending or box.stop()
        spent += ending.cpu_seconds
        if printed.long:
            return "output", f"case {number}: it printed more than {limits.output_mb} MB"
        if stopped:
            return out_of_time(limits)
        if ending.status != 0:
            return _failed(number, ending, cpu_limit)
        if not same_output(case.expected, printed.content.decode("utf-8", "replace")):
            return "failed", f"case {number}: it printed {printed.content[:100]!r}"
    return "passed", ""


def _start(box: Box, cpu_seconds: float, limits: Limits, program: str, given: str) -> int:
    """Start the program; return the file descriptor of its output."""
    stdout, printing = os.pipe()
    files = [printing]
    try:
        files.append(sealed_memfd(json.dumps({"program": program}).encode()))
        files.append(sealed_memfd(given.encode("utf-8", "surrogatepass")))
        box.start("script", cpu_seconds, limits.rlimits(cpu_seconds), [files[1], files[2], printing])
    except BaseException:
        os.close(stdout)
        raise
    finally:
        for file in files:
            os.close(file)
    return stdout


def _failed(number: int, ending: ExitStatus, cpu_limit: float) -> tuple[Kind, str]:
    kind, detail = early_exit(ending, cpu_limit)
    return ("raised" if kind == "exited" else kind), f"case {number}: {detail}"


def same_output(expected: str, printed: str) -> bool:
    """Whether two outputs are equal, up to trailing white space and with decimals compared to 1e-6."""
    wanted, given = _lines(expected), _lines(printed)
    return len(wanted) == len(given) and all(map(_same_line, wanted, given))


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _same_line(wanted: str, given: str) -> bool:
    if wanted == given:
        return True
    words, others = wanted.split(), given.split()
    return len(words) == len(others) and all(map(_same_word, words, others))


def _same_word(wanted: str, given: str) -> bool:
    """Whether two words are equal, or close if a decimal is expected; integers must match exactly."""
    if wanted == given:
        return True
    if "." not in wanted or max(len(wanted), len(given)) > _NUMBER_LENGTH:
        return False
    try:
        return math.isclose(float(wanted), float(given), rel_tol=_CLOSE, abs_tol=_CLOSE)
    except ValueError:
        return False
