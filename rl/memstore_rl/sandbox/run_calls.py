"""Runs tests that call functions: the program runs in one box, and the judge calls it from the other."""

from __future__ import annotations

import json
import os
import socket
import time

from memstore_rl.sandbox.box import Box, ExitStatus, sealed_memfd
from memstore_rl.sandbox.gold import CallTests
from memstore_rl.sandbox.outcome import Kind, Limits, early_exit, out_of_time
from memstore_rl.sandbox.reading import ReadResult, read_until

_VERDICT_BYTES = 1 << 14


def run_calls(program_box: Box, judge_box: Box, limits: Limits, program: str, tests: CallTests) -> tuple[Kind, str]:
    """Run the tests; return kind and detail of the outcome.

    Raises:
        BoxLost: a box was lost.
    """
    deadline = time.monotonic() + limits.wall_seconds
    verdict = _start(program_box, judge_box, limits, program, tests)
    try:
        result = read_until(verdict, deadline, _VERDICT_BYTES)
    finally:
        os.close(verdict)
    return _outcome(result, program_box.stop(), judge_box.stop(), limits)


def _start(program_box: Box, judge_box: Box, limits: Limits, program: str, tests: CallTests) -> int:
    """Start both sides; return the file descriptor of the verdict."""
    program_job = {"program": program, "names": tests.names}
    judge_job = {"names": tests.names, "prelude": tests.prelude, "tests": tests.tests, "call": tests.call}
    program_end, judge_end = socket.socketpair()
    verdict, verdict_writer = os.pipe()
    files = [verdict_writer]
    try:
        with program_end, judge_end:
            files.append(sealed_memfd(json.dumps(program_job).encode()))
            cpu_seconds, of_judge = limits.cpu_seconds, 2 * limits.cpu_seconds
            program_box.start("call", cpu_seconds, limits.rlimits(cpu_seconds), [files[-1], program_end.fileno()])
            files.append(sealed_memfd(json.dumps(judge_job).encode()))
            judge_box.start(
                "judge", of_judge, limits.rlimits(of_judge), [files[-1], judge_end.fileno(), verdict_writer]
            )
    except BaseException:
        os.close(verdict)
        raise
    finally:
        for file in files:
            os.close(file)
    return verdict


def _outcome(result: ReadResult, program: ExitStatus, judge: ExitStatus, limits: Limits) -> tuple[Kind, str]:
    if result.late:
        return out_of_time(limits)
    if not result.content:
        kind, detail = early_exit(judge, 2 * limits.cpu_seconds)
        return kind, f"the judge, given the returned values: {detail}"
    kind, detail = json.loads(result.content)
    if kind == "exited" and detail == "":
        return early_exit(program, limits.cpu_seconds)
    return kind, detail
