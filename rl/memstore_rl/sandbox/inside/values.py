"""Plain values to JSON and back: the only form in which values pass from a program to its judge.

Numbers, texts, bytes and the standard containers are rebuilt as exactly their base type: a list subclass whose `__eq__`
is always true arrives as a plain list. Anything else is `NotPlain`. Reading evaluates nothing and calls nothing that
the sender names; its cost is bounded by the frame size and the judge's limits.

    null, booleans, floats, texts and integers under 2**60        themselves
    texts with lone surrogates                                    ["text", hexadecimal]
    other integers                                                ["int", hexadecimal]
    everything else                                               [tag, contents...]
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

Json: TypeAlias = Any
"""A result of json.loads, of unknown shape."""

MAX_DEPTH = 100
"""Deepest nesting of a value that is transferred."""
MAX_ITEMS = 1_000_000
"""Maximum number of nested values; bounds `a = [a, a]`, repeated."""
_SMALL = 1 << 60


class NotPlain(Exception):
    """The value cannot be transferred: an object, a function, or something endless."""


def pack(value: object) -> Json:
    """Convert a plain value to its JSON form.

    Raises:
        NotPlain: it holds anything else, or is too deep or too large.
    """
    return _Packer().pack(value, 0)


class _Packer:
    def __init__(self) -> None:
        self._items = 0

    def pack(self, value: object, depth: int) -> Json:
        self._items += 1
        if depth > MAX_DEPTH or self._items > MAX_ITEMS:
            raise NotPlain("a value nested too deeply or too large")
        kind = type(value)
        if value is None or kind is bool or kind is float:
            return value
        for base, packed in _SCALARS:
            if issubclass(kind, base):
                return packed(value)
        for base, tag, items in _CONTAINERS:
            if issubclass(kind, base):
                return [tag, *[self.pack(item, depth + 1) for item in items(value)]]
        if kind.__module__ == "numpy" and getattr(value, "shape", None) == ():
            return self.pack(value.item(), depth + 1)  # type: ignore[attr-defined]
        if hasattr(kind, "__next__"):
            return ["iterator", *[self.pack(item, depth + 1) for item in value]]  # type: ignore[attr-defined]
        raise NotPlain(f"an object of class {kind.__name__[:80]}")


def _integer(value: int) -> Json:
    plain = int.__index__(value)
    return plain if -_SMALL < plain < _SMALL else ["int", hex(plain)]


def _text(value: str) -> Json:
    plain = str.__str__(value)
    try:
        plain.encode()
    except UnicodeEncodeError:
        # JSON would join two adjacent surrogates into one character.
        return ["text", plain.encode("utf-8", "surrogatepass").hex()]
    return plain


_SCALARS: tuple[tuple[type, Callable[[Any], Json]], ...] = (
    (int, _integer),
    (float, lambda value: float.__float__(value)),
    (str, _text),
    (complex, lambda value: ["complex", value.real, value.imag]),
    (bytes, lambda value: ["bytes", bytes.hex(value)]),
    (bytearray, lambda value: ["bytearray", bytearray.hex(value)]),
    (range, lambda value: ["range", *map(_integer, (value.start, value.stop, value.step))]),
    (Decimal, lambda value: ["decimal", Decimal.__str__(value)]),
    (Fraction, lambda value: ["fraction", _integer(value.numerator), _integer(value.denominator)]),
)
_CONTAINERS: tuple[tuple[type, str, Callable[[Any], Iterable[object]]], ...] = (
    (list, "list", list.__iter__),
    (tuple, "tuple", tuple.__iter__),
    (dict, "dict", dict.items),
    (set, "set", set.__iter__),
    (frozenset, "frozenset", frozenset.__iter__),
    (deque, "deque", deque.__iter__),
    (type({}.keys()), "keys", iter),
    (type({}.values()), "iterator", iter),
    (type({}.items()), "items", iter),
)


def unpack(form: Json) -> Any:
    """Rebuild the value of an untrusted JSON form.

    Raises:
        ValueError: it is not the form of a plain value.
    """
    try:
        return _unpack(form, 0)
    except (TypeError, KeyError, IndexError, ArithmeticError) as error:
        raise ValueError(f"not the form of a value: {error}") from None


def is_large(form: Json) -> bool:
    """Whether an unpacked form uses a tenth of the values, or half of the depth, that can be transferred."""
    items, level, depth = 0, [form], 0
    while level:
        items += len(level)
        if items > MAX_ITEMS // 10 or depth > MAX_DEPTH // 2:
            return True
        level = [item for inner in level if type(inner) is list for item in inner[1:]]
        depth += 1
    return False


def _unpack(form: Json, depth: int) -> Any:
    kind = type(form)
    if form is None or kind is bool or kind is int or kind is float or kind is str:
        return form
    if kind is not list or not form or type(form[0]) is not str or depth > MAX_DEPTH:
        raise ValueError("not the form of a value")
    tag, contents = form[0], form[1:]
    if tag in _LEAVES:
        return _LEAVES[tag](*contents)
    return _BUILDERS[tag]([_unpack(item, depth + 1) for item in contents])


def _whole(form: Json) -> int:
    value = _unpack(form, 0)
    if type(value) is not int:
        raise ValueError("not an integer")
    return value


_LEAVES: dict[str, Callable[..., object]] = {
    "int": lambda digits: int(digits, 16),
    "text": lambda digits: bytes.fromhex(digits).decode("utf-8", "surrogatepass"),
    "complex": lambda real, imaginary: complex(float(real), float(imaginary)),
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "range": lambda start, stop, step: range(_whole(start), _whole(stop), _whole(step)),
    "decimal": Decimal,
    "fraction": lambda numerator, denominator: Fraction(_whole(numerator), _whole(denominator)),
}
_BUILDERS: dict[str, Callable[[list[Any]], object]] = {
    "list": lambda items: items,
    "tuple": tuple,
    "dict": dict,
    "set": set,
    "frozenset": frozenset,
    "deque": deque,
    "keys": lambda items: dict.fromkeys(items).keys(),
    "items": lambda items: dict(items).items(),
    "iterator": iter,
}
