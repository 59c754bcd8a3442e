"""Limits of an interpreted program, and the exceptions that stop it.

`Stop` is not an error of the program: no `except` clause of the program catches it. Any other exception is the
program's own, as in Python.
"""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

STEPS = 20_000
"""Expressions and loop iterations of one call."""
ITEMS = 20_000
"""Length of a sequence, set, mapping or string."""
BITS = 4_000
"""Bits of an integer."""
DEPTH = 40
"""Nested calls of the program's functions."""


class Stop(Exception):
    """The interpreter stopped the program."""


class Unsupported(Stop):
    """The program uses something that the interpreter does not support."""


class TooMuch(Stop):
    """The program is over a limit; the message names the limit."""


class Fuel:
    """Steps left to one call, and the modules that a program may import."""

    __slots__ = ("depth", "left", "modules")

    def __init__(self) -> None:
        self.left = STEPS
        self.depth = 0
        self.modules: dict[str, Any] = {}

    def refill(self) -> None:
        """Reset the steps and the depth before a call."""
        self.left = STEPS
        self.depth = 0

    def burn(self, steps: int = 1) -> None:
        """Use up steps; raise `TooMuch` when none are left."""
        self.left -= steps
        if self.left < 0:
            raise TooMuch("steps")


def checked(value: Any) -> Any:
    """Return the value; raise `TooMuch` if it is too large."""
    if type(value) is int:
        if value.bit_length() > BITS:
            raise TooMuch("integer")
    elif isinstance(value, Sized) and len(value) > ITEMS:
        raise TooMuch("length")
    return value


def check_product(a: Any, b: Any) -> None:
    """Raise `TooMuch` if `a * b` would be too large, without computing it."""
    for one, other in ((a, b), (b, a)):
        if isinstance(one, str | list | tuple) and isinstance(other, int) and len(one) * other > ITEMS:
            raise TooMuch("length")
    if isinstance(a, int) and isinstance(b, int) and a.bit_length() + b.bit_length() > BITS:
        raise TooMuch("integer")


def check_power(base: Any, exponent: Any) -> None:
    """Raise `TooMuch` if `base ** exponent` would be too large, without computing it."""
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > BITS:
        raise TooMuch("integer")


def check_shift(value: Any, by: Any) -> None:
    """Raise `TooMuch` if `value << by` would be too large, without computing it."""
    if isinstance(value, int) and isinstance(by, int) and value.bit_length() + by > BITS:
        raise TooMuch("integer")


def checked_order(value: Any) -> Any:
    """Return the value; raise `Unsupported` if it is a set whose order depends on object addresses.

    CPython hashes None (before 3.12), NaN, functions and classes by address.
    """
    if isinstance(value, set | frozenset) and not all(map(_has_stable_hash, value)):
        raise Unsupported("set order")
    return value


def checked_hash(value: Any) -> int:
    """`hash(value)`; raise `Unsupported` if it depends on object addresses."""
    found = hash(value)
    if not _has_stable_hash(value):
        raise Unsupported("hash")
    return found


def checked_text(text: str) -> str:
    """Return the text; raise `Unsupported` if it shows an object's address, as `repr` of a function does."""
    if " at 0x" in text:
        raise Unsupported("address")
    return text


def _has_stable_hash(value: Any) -> bool:
    kind = type(value)
    if kind in (str, int, bool):
        return True
    if kind in (float, complex):
        return bool(value == value)
    return kind in (tuple, frozenset) and all(map(_has_stable_hash, value))
