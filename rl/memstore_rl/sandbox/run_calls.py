"""A program whose functions are called: in one box it answers, in the other one its judge asks."""

from __future__ import annotations

import json
import os
import socket
import time

from memstore_rl.sandbox.box import Box, ExitStatus, sealed_memfd
from memstore_rl.sandbox.gold import CallTests
from memstore_rl.sandbox.outcome import Kind, Limits, early_exit, out_of_time
from memstore_rl.sandbox.reading import Read, read_until

_VERDICT_BYTES = 1 << 14


def run_calls(program_box: Box, judge_box: Box, limits: Limits, program: str, tests: CallTests) -> tuple[Kind, str]:
    """Run the tests; kind and detail of what came of it.

    Raises:
        BoxLost: a box is gone.
    """
    deadline = time.monotonic() + limits.wall_seconds
    verdict = _start(program_box, judge_box, limits, program, tests)
    try:
        said = read_until(verdict, deadline, _VERDICT_BYTES)
    finally:
        os.close(verdict)
    return _concluded(said, program_box.stop(), judge_box.stop(), limits)


def _start(program_box: Box, judge_box: Box, limits: Limits, program: str, tests: CallTests) -> int:
    """Start both sides; the file where the judge will write its verdict."""
    program_job = {"program": program, "names": tests.names}
    judge_job = {"names": tests.names, "prelude": tests.prelude, "tests": tests.tests, "call": tests.call}
    asked, asking = socket.socketpair()
    verdict, said = os.pipe()
    files = [said]
    try:
        with asked, asking:
            files.append(sealed_memfd(json.dumps(program_job).encode()))
            program_box.start("call", limits.rlimits(), [files[-1], asked.fileno()])
            files.append(sealed_memfd(json.dumps(judge_job).encode()))
            judge_box.start("judge", limits.rlimits(2 * limits.cpu_seconds), [files[-1], asking.fileno(), said])
    except BaseException:
        os.close(verdict)
        raise
    finally:
        for file in files:
            os.close(file)
    return verdict


def _concluded(said: Read, program: ExitStatus, judge: ExitStatus, limits: Limits) -> tuple[Kind, str]:
    if said.late:
        return out_of_time(limits)
    if not said.content:
        kind, detail = early_exit(judge, 2 * limits.cpu_seconds)
        return kind, f"its judge, given what it returned: {detail}"
    kind, detail = json.loads(said.content)
    if kind == "exited" and detail == "":
        return early_exit(program, limits.cpu_seconds)
    return kind, detail
