"""A process that interprets programs and does nothing else: `python -m memstore_gnn.features.behaviour.worker`.

It reads a task a line from standard input and answers each with a line on standard output. The interpreter is what
keeps a program from doing harm; that it runs here, with little memory and little time, is for a program that ties
up the interpreter itself (a list that holds itself twice, forty times over). Such a program costs its own process,
and its outcome is unknown.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, NamedTuple

from memstore.errors import ModelError
from memstore_gnn.features.behaviour.interpreter import Interpreter
from memstore_gnn.features.behaviour.limits import Stop, TooMuch, Unsupported

MEMORY = 1 << 30
SECONDS = 2.0
"""Of one program with all its calls; its fuel is spent long before, unless it found a slow operation."""
STALLED = 10.0
"""Seconds after which a worker that says nothing is killed."""
TIME = "time"
"""The limit that depends on the machine: a program over it says nothing, rather than something else each time."""
START = 60.0
"""Seconds that a worker may take to start on a busy machine."""
NODES = 3000
"""Values inside one result."""

READY = b"ready"
"""The first line of a worker."""
UNKNOWN = "?"
"""Outcome of a call that the interpreter gave up, or of a program it could not read."""


class Task(NamedTuple):
    """A program, and the calls to make."""

    source: str
    name: str
    arguments: tuple[str, ...]
    """Each a Python literal of a tuple."""


def outcomes(tasks: Sequence[Task]) -> list[list[str]]:
    """What each program gives for each of its calls: a value, `!` and the name of an error, or `?`."""
    if not tasks:
        return []
    workers = max(1, min(os.cpu_count() or 1, len(tasks) // 100))
    parts = [tasks[i::workers] for i in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda part: list(_served(part)), parts))
    out: list[list[str]] = [[] for _ in tasks]
    for i, part in enumerate(done):
        out[i::workers] = part
    return out


def _served(tasks: Sequence[Task]) -> Iterator[list[str]]:
    """Answers in order; a task that its worker did not survive is unknown, and the next worker goes on behind it."""
    at = 0
    while at < len(tasks):
        for answer in _one_process(tasks[at:]):
            yield answer
            at += 1
        if at < len(tasks):
            yield [UNKNOWN] * len(tasks[at].arguments)
            at += 1


def _one_process(tasks: Sequence[Task]) -> Iterator[list[str]]:
    """Answers until the tasks, or the worker, are at an end.

    Raises:
        ModelError: the worker did not even start.
    """
    command = [sys.executable, "-m", "memstore_gnn.features.behaviour.worker"]
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as told:
        given.writelines(json.dumps(task) + "\n" for task in tasks)
        given.seek(0)
        process = subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, stderr=told)
        try:
            lines = _lines(process)
            if next(lines, None) != READY:
                told.seek(0)
                reason = told.read().strip().rpartition("\n")[2]
                raise ModelError(f"The interpreter of programs did not start ({reason}); check the installation.")
            yield from map(json.loads, lines)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _lines(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """Whole lines of a process's output, until it ends or says nothing for too long."""
    assert process.stdout is not None
    number, rest, patience = process.stdout.fileno(), b"", START
    while select.select([number], [], [], patience)[0]:
        patience = STALLED
        chunk = os.read(number, 1 << 16)
        if not chunk:
            return
        *whole, rest = (rest + chunk).split(b"\n")
        yield from whole


def run_task(task: Task) -> list[str]:
    """Interpret one program."""
    unknown = [UNKNOWN] * len(task.arguments)
    try:
        program = Interpreter(ast.parse(task.source))
    except (Stop, SyntaxError, ValueError, RecursionError, MemoryError):
        return unknown
    made = []
    for arguments in task.arguments:
        try:
            made.append(canonical(program.call(task.name, ast.literal_eval(arguments))))
        except Unsupported:
            made.append(UNKNOWN)
        except TooMuch as limit:
            if str(limit) == TIME:
                return unknown
            made.append("!" + str(limit))
        except (RecursionError, MemoryError):
            made.append(UNKNOWN)
        except Exception as error:
            made.append("!" + type(error).__name__)
    return made


def canonical(value: Any) -> str:
    """A text that is equal for values that compare equal; floats to nine digits.

    Raises:
        TooMuch: the value is too large to be compared.
    """
    budget = [NODES]

    def write(v: Any) -> str:
        budget[0] -= 1
        if budget[0] < 0:
            raise TooMuch("result")
        if isinstance(v, bool | int | float):
            number = float(v) if isinstance(v, float) else int(v)
            if isinstance(number, float):
                return f"{number:.9g}" if not number.is_integer() else str(int(number))
            return str(number)
        if isinstance(v, str):
            budget[0] -= len(v) // 20
            return repr(v)
        if isinstance(v, list | tuple):
            return ("[" if isinstance(v, list) else "(") + ",".join(map(write, v)) + "]"
        if isinstance(v, set | frozenset):
            return "{" + ",".join(sorted(map(write, v))) + "}"
        if isinstance(v, dict):
            return "{" + ",".join(sorted(write(k) + ":" + write(x) for k, x in v.items())) + "}"
        return "None" if v is None else f"<{type(v).__name__}>"

    return write(value)


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise TooMuch(TIME)


def main() -> None:
    """Serve tasks until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _out_of_time)
    sys.stdout.write(READY.decode() + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        task = Task(*json.loads(line))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            answer = run_task(task)
        except TooMuch:
            answer = [UNKNOWN] * len(task.arguments)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
