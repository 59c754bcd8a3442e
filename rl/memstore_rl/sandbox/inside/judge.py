"""Runs the tests, with each of the program's functions replaced by a call to the program's process.

The expected values are here and never leave; `values.unpack` reads what comes back. Anything that ends the tests early
(the program has exited, or sends an invalid message) ends this process at once with its verdict: an exception could be
swallowed by an `except:` in the tests.

If the tests raise before the program has answered any call, or never call it, the tests are at fault and there is no
verdict on the program.
"""

from __future__ import annotations

import builtins
import json
import os
import secrets
import socket
import sys
import types
from collections.abc import Callable
from typing import Any, NoReturn

from .frames import BadFrame, receive, send
from .values import NotPlain, is_large, pack, unpack

_DETAIL = 300
_ENDINGS = frozenset(["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
_SILENT = (StopIteration, StopAsyncIteration)
"""Exceptions that would silently end a loop in the tests, as in `zip(map(candidate, ...), ...)`."""
_EXCEPTIONS = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _SILENT)
}


class ProgramError(Exception):
    """The program raised an exception of a class of its own."""


class _Session:
    """One program under test."""

    def __init__(self, channel: socket.socket, verdict: int) -> None:
        self._channel = channel
        self._verdict = verdict
        self.answers = 0
        self._large_value = False
        """Whether the program returned a value near the limits of what can be transferred."""

    def end(self, kind: str, detail: str = "") -> NoReturn:
        """Write the verdict and exit."""
        text = detail.encode("utf-8", "backslashreplace").decode()[:_DETAIL]
        os.write(self._verdict, json.dumps([kind, text]).encode())
        os._exit(0)

    def wait_for_program(self) -> None:
        message = self._receive()
        if message.get("loaded") is True:
            return
        if "failed" not in message:
            self.end("forged", "the program wrote to its judge before any call")
        self.end("load", _words(message["failed"]))

    def function(self, name: str) -> Callable[..., Any]:
        """Return the stand-in for a function of the program."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            return self._call(name, list(arguments), keywords)

        call.__name__ = call.__qualname__ = name
        return call

    def _call(self, name: str, arguments: list[Any], keywords: dict[str, Any]) -> Any:
        number = secrets.randbits(60)
        try:
            question = {"id": number, "name": name, "arguments": pack(arguments), "keywords": pack(keywords)}
        except NotPlain as error:
            self._end_by_argument(error)
        try:
            send(self._channel, question)
        except OSError:
            self.end("exited")
        except BadFrame as error:
            self._end_by_argument(error)
        answer = self._receive()
        if answer.get("id") != number:
            self.end("forged", "an answer to no pending call")
        self.answers += 1
        if "opaque" in answer:
            self.end("opaque", f"{name} returned {answer['opaque']}")
        if "raised" in answer:
            self._raise(answer["raised"])
        return self._value(answer, arguments)

    def _end_by_argument(self, error: Exception) -> NoReturn:
        """End because an argument cannot be transferred: the program's fault if it returned the large value in it."""
        if self._large_value:
            self.end("opaque", f"it returned a value that the tests pass back to it, which is {error}")
        self.end("unsupported", f"the tests pass {error} to the program")

    def _receive(self) -> dict[str, Any]:
        try:
            message = receive(self._channel)
        except (EOFError, OSError):
            self.end("exited")
        except BadFrame as error:
            self.end("forged", str(error))
        if type(message) is not dict:
            self.end("forged", "an answer without a number")
        return message

    def _raise(self, raised: Any) -> NoReturn:
        if type(raised) is not list or len(raised) != 2 or not all(type(word) is str for word in raised):
            self.end("forged", "an exception without a name")
        name, text = raised
        if name in _ENDINGS:
            self.end("exited", _words(raised))
        if name in _EXCEPTIONS:
            try:
                error = _EXCEPTIONS[name](text)
            except TypeError:
                error = ProgramError(_words(raised))
            raise error
        raise ProgramError(_words(raised))

    def _value(self, answer: dict[str, Any], arguments: list[Any]) -> Any:
        """Return the value, and apply changes of the arguments here, as a call in one process would."""
        try:
            value = unpack(answer["value"])
            self._large_value |= is_large(answer["value"])
            changed = answer["changed"]
            if type(changed) is not list or len(changed) != len(arguments):
                raise ValueError("arguments are missing")
            for argument, form in zip(arguments, changed, strict=True):
                if form is not None:
                    _change(argument, unpack(form))
        except (ValueError, KeyError, RecursionError) as error:
            self.end("forged", f"an answer that holds no value: {error}")
        return value


def _change(argument: Any, now: Any) -> None:
    if type(argument) is not type(now):
        return
    if type(argument) is list or type(argument) is bytearray:
        argument[:] = now
    elif type(argument) is dict or type(argument) is set:
        argument.clear()
        argument.update(now)


def judge(files: list[int]) -> None:
    """Run the tests against the program.

    Args:
        files: descriptors of the job (JSON: names, prelude, tests, call), the channel to the program, and the verdict.
    """
    with os.fdopen(files[0], "rb") as file:
        job = json.load(file)
    session = _Session(socket.socket(fileno=files[1]), files[2])
    session.wait_for_program()
    try:
        _run(job, session)
    except AssertionError as error:
        session.end("failed" if session.answers else "unreadable", f"assertion: {error}")
    except BaseException as error:
        session.end("raised" if session.answers else "unreadable", f"{type(error).__name__}: {error}")
    if not session.answers:
        session.end("unreadable", "the tests never call the program")
    session.end("passed")


def _run(job: dict[str, Any], session: _Session) -> None:
    module = types.ModuleType("tests")
    sys.modules["tests"] = module
    names = module.__dict__
    exec(compile(job["prelude"], "<prompt>", "exec"), names)
    for name in job["names"]:
        names[name] = session.function(name)
    names.setdefault("candidate", names[job["names"][-1]])
    exec(compile(job["tests"], "<tests>", "exec"), names)
    if job["call"]:
        names[job["call"]](names["candidate"])


def _words(described: Any) -> str:
    return ": ".join(map(str, described))[:_DETAIL] if type(described) is list else "?"
