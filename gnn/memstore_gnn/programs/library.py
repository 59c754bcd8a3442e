"""Builtin functions and methods that an interpreted program can reach.

All of them are pure functions of plain values: numbers, strings, lists, tuples, dicts and sets. Files, modules,
classes, frames, names with underscores, constructors that run code and regular expressions cannot be reached.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from memstore_gnn.programs.limits import (
    ITEMS,
    Fuel,
    TooMuch,
    Unsupported,
    check_power,
    checked,
    checked_hash,
    checked_order,
    checked_text,
)

EXCEPTIONS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        Exception, ValueError, TypeError, IndexError, KeyError, ZeroDivisionError, ArithmeticError, OverflowError,
        AttributeError, LookupError, NameError, RuntimeError, NotImplementedError, AssertionError, StopIteration,
        RecursionError,
    )
}  # fmt: skip

METHODS: dict[type, frozenset[str]] = {
    kind: frozenset(names.split())
    for kind, names in (
        (
            str,
            "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier "
            "islower isnumeric isprintable isspace istitle isupper join lower lstrip partition removeprefix "
            "removesuffix replace rfind rindex rpartition rsplit rstrip split splitlines startswith strip swapcase "
            "title translate upper zfill ljust rjust center format",
        ),
        (list, "append clear copy count extend index insert pop remove reverse sort"),
        (tuple, "count index"),
        (dict, "clear copy get items keys pop popitem setdefault update values"),
        (
            set,
            "add clear copy difference difference_update discard intersection intersection_update isdisjoint issubset "
            "issuperset pop remove symmetric_difference union update",
        ),
        (frozenset, "copy difference intersection isdisjoint issubset issuperset union"),
        (int, "bit_length bit_count"),
        (float, "is_integer"),
        (collections.Counter, "copy elements get items keys most_common pop subtract total update values"),
        (collections.defaultdict, "clear copy get items keys pop setdefault update values"),
        (collections.OrderedDict, "clear copy get items keys move_to_end pop popitem setdefault update values"),
        (
            collections.deque,
            "append appendleft clear copy count extend extendleft index insert pop popleft remove reverse rotate",
        ),
    )
}

_ADDS_ITEMS = frozenset(("add", "update", "union", "symmetric_difference", "symmetric_difference_update"))
"""Methods of a set that can bring in new items."""
_WIDE = re.compile(r"\d{3}|[.\[!]|\{[^{}]*+\{")
"""Not allowed in a format string: widths of three digits, attributes, subscripts, nested fields."""


class Namespace:
    """A module of the program: a fixed set of names."""

    __slots__ = ("members",)

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members


def plain_iterator(value: Any, fuel: Fuel) -> Iterable[Any]:
    """Iterate over a plain value; each item uses up one step.

    Raises:
        TypeError: the value is a function or a module.
    """
    if isinstance(value, Namespace) or (callable(value) and not isinstance(value, type)):
        raise TypeError("object is not iterable")
    for item in value:
        fuel.burn()
        yield item


def method(value: Any, name: str, fuel: Fuel) -> Callable[..., Any]:
    """Look up a method of a plain value.

    Raises:
        Unsupported: the type or the method is not in `METHODS`.
    """
    kind = type(value)
    if name not in METHODS.get(kind, ()):
        if name.startswith("_") or kind not in METHODS:
            raise Unsupported(f"{kind.__name__}.{name}")
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    bound = getattr(value, name)
    if kind is str:
        return _string_method(value, name, bound, fuel)
    if kind in (set, frozenset) and name in _ADDS_ITEMS:
        return functools.partial(_ordered_after, value, bound, name == "add")
    return bound


def _string_method(text: str, name: str, bound: Callable[..., Any], fuel: Fuel) -> Callable[..., Any]:
    """The method, or a replacement that checks the length of its result."""
    if name in ("ljust", "rjust", "center", "zfill"):
        return functools.partial(_padded, bound)
    if name == "format":
        _check_format(text)
        return lambda *values, **named: checked_text(bound(*values, **named))
    if name == "replace":
        return functools.partial(_replaced, text)
    if name == "join":
        return lambda parts: _joined(text, list(plain_iterator(parts, fuel)))
    return bound


def _ordered_after(owner: Any, bound: Callable[..., Any], one_item: bool, *values: Any) -> Any:
    """Call a method of a set, then check that the set or the result still has a stable order."""
    result = bound(*values)
    checked_order(frozenset(values) if one_item else owner)
    return checked_order(result)


def _padded(bound: Callable[..., str], width: int, *fill: str) -> str:
    checked(range(max(int(width), 0)))
    return bound(width, *fill)


def _replaced(text: str, old: str, new: str, count: int = -1) -> str:
    if (text.count(old) + 1) * len(new) > ITEMS:
        raise TooMuch("length")
    return text.replace(old, new, count)


def _joined(text: str, parts: list[Any]) -> str:
    if sum(len(part) + len(text) for part in parts if isinstance(part, str)) > ITEMS:
        raise TooMuch("length")
    return text.join(parts)


def _check_format(text: str) -> None:
    if _WIDE.search(text.replace("{:.", "{:").replace("{0:.", "{:")):
        raise Unsupported("format")


def format_value(value: Any, spec: str) -> str:
    """`format(value, spec)` of a plain value, for specifications without widths of three digits."""
    if re.search(r"\d{3}", spec):
        raise Unsupported("format")
    return checked_text(format(value, spec))


def builtins(fuel: Fuel) -> dict[str, Any]:
    """The builtin names of a program."""
    plain = (abs, bin, bool, chr, complex, divmod, float, hex, int, len, oct, ord, range, round, slice)
    names: dict[str, Any] = {function.__name__: function for function in plain}
    names |= _collecting(fuel) | _looping(fuel) | EXCEPTIONS
    names |= {"callable": callable, "isinstance": _is_instance, "pow": _power, "hash": checked_hash}
    names |= {"str": _standing_for(str, lambda *values, **named: checked_text(str(*values, **named)))}
    names |= {"repr": lambda value: checked_text(repr(value)), "print": lambda *values, **named: None}
    names["format"] = lambda value, spec="": format_value(value, spec)
    by_type = {getattr(member, "stands_for", member): member for member in names.values() if _is_kind(member)}

    def type_of(value: Any) -> Any:
        if type(value) not in by_type:
            raise Unsupported("type")
        return by_type[type(value)]

    return names | {"type": type_of}


def _standing_for(kind: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function as the program's name for a builtin, which `type` and `isinstance` compare with."""
    function.stands_for = kind  # type: ignore[attr-defined]
    return function


def _collecting(fuel: Fuel) -> dict[str, Any]:
    """Builtins that turn an iterable into one value."""

    def over(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **options: Any) -> Any:
            if not values:
                return function()
            return checked_order(checked(function(list(plain_iterator(values[0], fuel)), *values[1:], **options)))

        return _standing_for(function, call)

    def extreme(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **options: Any) -> Any:
            return function(list(plain_iterator(values[0], fuel)) if len(values) == 1 else values, **options)

        return call

    collected = {function.__name__: over(function) for function in (list, tuple, set, frozenset, sum, sorted, any, all)}
    return collected | {
        "min": extreme(min),
        "max": extreme(max),
        "enumerate": over(lambda values, start=0: list(enumerate(values, start))),
        "reversed": over(lambda values: values[::-1]),
        "dict": _standing_for(dict, lambda *values, **named: checked(dict(*values, **named))),
    }


def _looping(fuel: Fuel) -> dict[str, Any]:
    """Builtins that are iterators in Python; here they return lists."""

    def zipped(*values: Any, strict: bool = False) -> list[Any]:
        return list(zip(*(plain_iterator(v, fuel) for v in values), strict=strict))

    def mapped(function: Callable[..., Any], *values: Any) -> list[Any]:
        return [function(*items) for items in zip(*(plain_iterator(v, fuel) for v in values), strict=False)]

    def filtered(function: Callable[..., Any] | None, values: Any) -> list[Any]:
        return [v for v in plain_iterator(values, fuel) if (v if function is None else function(v))]

    def listed(values: Any = ()) -> list[Any]:
        return list(plain_iterator(values, fuel))

    def first(values: Any, *default: Any) -> Any:
        # Generators are lists here, so `next` returns the first item.
        for item in plain_iterator(values, fuel):
            return item
        if default:
            return default[0]
        raise StopIteration

    return {"zip": zipped, "map": mapped, "filter": filtered, "iter": listed, "next": first}


def _power(base: Any, exponent: Any, modulus: Any = None) -> Any:
    if modulus is None:
        check_power(base, exponent)
    return pow(base, exponent, modulus)


def _is_kind(member: Any) -> bool:
    return isinstance(getattr(member, "stands_for", member), type)


def _is_instance(value: Any, kinds: Any) -> bool:
    wanted = kinds if isinstance(kinds, tuple) else (kinds,)
    return any(_matches(value, kind) for kind in wanted)


def _matches(value: Any, kind: Any) -> bool:
    real = getattr(kind, "stands_for", kind)
    if not isinstance(real, type):
        raise Unsupported("isinstance")
    return isinstance(value, real)
