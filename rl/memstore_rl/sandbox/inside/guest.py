"""Runs the program and answers the judge's calls of its functions.

This process holds neither the tests nor the expected values: the judge sends arguments, one call at a time, and
receives values. A program can do anything to this process; all it can reach is the channel, and anything it writes
there must answer the pending call.
"""

from __future__ import annotations

import builtins
import json
import os
import socket
import sys
import types
from collections.abc import Callable
from typing import Any

from .frames import receive, send
from .values import NotPlain, pack, unpack

_MESSAGE = 300
"""Maximum length of an exception's text."""
_CHANGEABLE = (list, dict, set, bytearray)


def answer_calls(files: list[int]) -> None:
    """Load the program, then call its functions on request until the judge closes the channel.

    Args:
        files: descriptors of the job (JSON: program, names) and of the channel to the judge.
    """
    job = _read_job(files[0])
    channel = socket.socket(fileno=files[1])
    try:
        functions = _load(job["program"], job["names"])
    except BaseException as error:
        send(channel, {"failed": _described(error)})
        os._exit(0)
    send(channel, {"loaded": True})
    while True:
        try:
            question = receive(channel)
        except EOFError:
            os._exit(0)
        send(channel, _answer(question, functions))


def _load(program: str, names: list[str]) -> dict[str, Callable[..., object]]:
    module = _execute(program, "program")
    return {name: module.__dict__[name] for name in names}


def _answer(question: dict[str, Any], functions: dict[str, Callable[..., object]]) -> dict[str, Any]:
    """Return the value or exception of a call, and the arguments after it, since the call may have changed them."""
    answer: dict[str, Any] = {"id": question["id"]}
    try:
        arguments, keywords = unpack(question["arguments"]), unpack(question["keywords"])
        value = functions[question["name"]](*arguments, **keywords)
        try:
            answer["value"] = pack(value)
            answer["changed"] = [pack(item) if type(item) in _CHANGEABLE else None for item in arguments]
        except NotPlain as error:
            return {"id": question["id"], "opaque": str(error)}
    except BaseException as error:
        return {"id": question["id"], "raised": _described(error)}
    return answer


def _described(error: BaseException) -> list[str]:
    try:
        return [type(error).__name__[:_MESSAGE], str(error)[:_MESSAGE]]
    except Exception:
        return [type(error).__name__[:_MESSAGE], "(its text raises an exception)"]


def run_script(files: list[int]) -> None:
    """Run the program as a script with redirected input and output; return at its end, for a normal interpreter exit.

    Args:
        files: descriptors of the job (JSON: program), standard input and standard output.
    """
    program = _read_job(files[0])["program"]
    os.dup2(files[1], 0)
    os.dup2(files[2], 1)
    os.closerange(files[1], files[2] + 1)
    _execute(program, "__main__")


def _execute(program: str, name: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    sys.argv = ["program"]
    # Defined by `site`, which is not loaded here.
    vars(builtins).update(exit=sys.exit, quit=sys.exit)
    exec(compile(program, "<program>", "exec"), module.__dict__)
    return module


def _read_job(file: int) -> dict[str, Any]:
    with os.fdopen(file, "rb") as job:
        return dict(json.load(job))
