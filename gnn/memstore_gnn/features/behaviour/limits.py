"""How much an interpreted program may do, and how it is stopped.

A `Stop` is not an error of the program: no `except` of the program can catch it. Everything else that goes wrong
inside is an ordinary exception of the program's own, as in Python.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

STEPS = 20_000
"""Expressions and loop turns of one call."""
ITEMS = 20_000
"""Length of a sequence or a string."""
BITS = 4_000
"""Of an integer."""
DEPTH = 40
"""Nested calls of the program's functions."""


class Stop(Exception):
    """The interpreter gave the program up."""


class Unsupported(Stop):
    """The program uses something that the interpreter does not have."""


class TooMuch(Stop):
    """The program is over a limit."""


class Fuel:
    """Steps that are left to one call, and the modules that a program may import."""

    __slots__ = ("depth", "left", "modules")

    def __init__(self) -> None:
        self.left = STEPS
        self.depth = 0
        self.modules: dict[str, Any] = {}

    def refill(self) -> None:
        """Begin another call."""
        self.left = STEPS
        self.depth = 0

    def burn(self, steps: int = 1) -> None:
        """Take steps, or stop the program."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch("steps")


def checked(value: Any) -> Any:
    """The value, if it is not too large."""
    if type(value) is int:
        if value.bit_length() > BITS:
            raise TooMuch("integer")
    elif isinstance(value, Sized) and len(value) > ITEMS:
        raise TooMuch("length")
    return value


def check_product(a: Any, b: Any) -> None:
    """Refuse `a * b` before it is made."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, str | list | tuple) and isinstance(other, int) and len(one) * other > ITEMS:
            raise TooMuch("length")
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > BITS:
        raise TooMuch("integer")


def check_power(base: Any, exponent: Any) -> None:
    """Refuse `base ** exponent` before it is made."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > BITS:
        raise TooMuch("integer")


def check_shift(value: Any, by: Any) -> None:
    """Refuse `value << by` before it is made."""
    if isinstance(value, int) and isinstance(by, int) and value.bit_length() + by > BITS:
        raise TooMuch("integer")
