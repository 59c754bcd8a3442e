"""Outcomes of calls: run a program's function on some arguments and write each result as comparable text.

    value                       canonical text, see `canonical`
    exception                   `!` and the class name, e.g. `!ValueError`
    over a limit                `!` and the limit, e.g. `!steps`, see `memstore_gnn.programs.limits`
    not supported, or no result `?`

Every program text has an outcome, and `run_task` raises nothing.
Outcomes are reproducible: they do not depend on the order of sets, on addresses or on what ran before. Set order
follows string hashes, so a process that runs tasks needs a fixed PYTHONHASHSEED, as `memstore_gnn.programs.worker` has.
"""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from memstore_gnn.programs.interpreter import Interpreter
from memstore_gnn.programs.limits import Stop, TooMuch, Unsupported

RESULT_ITEMS = 3000
"""Values in one result, nested ones included; 20 characters of a string count as one."""
UNKNOWN = "?"
"""Outcome of a call that the interpreter does not support, or of a program that it cannot parse."""


class Task(NamedTuple):
    """A program and the calls to make."""

    source: str
    name: str
    """The function to call."""
    arguments: tuple[str, ...]
    """Each the Python literal of a tuple."""


def run_task(task: Task) -> list[str]:
    """Interpret a program and return the outcome of each call."""
    unknown = [UNKNOWN] * len(task.arguments)
    try:
        program = Interpreter(ast.parse(task.source))
        return [_outcome(program, task.name, arguments) for arguments in task.arguments]
    except (Stop, SyntaxError, ValueError, RecursionError, MemoryError):
        return unknown


def _outcome(program: Interpreter, name: str, arguments: str) -> str:
    """Outcome of one call."""
    try:
        return canonical(program.call(name, ast.literal_eval(arguments)))
    except (Unsupported, RecursionError, MemoryError):
        return UNKNOWN
    except TooMuch as limit:
        return "!" + str(limit)
    except Exception as error:  # The program's own exception, whatever its class.
        return "!" + type(error).__name__


def canonical(value: Any) -> str:
    """Write a value as text that is equal for equal values; floats are rounded to nine digits.

    Raises:
        TooMuch: the value has more than `RESULT_ITEMS` items.
    """
    budget = [RESULT_ITEMS]

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
