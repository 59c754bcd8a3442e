"""The names an interpreted program can reach: values, never capabilities.

Everything here is a pure function of plain values (numbers, strings, lists, tuples, dicts, sets). No file, module,
class, frame, attribute with underscores, type constructor that runs code, or pattern engine can be reached.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable, Iterable
from typing import Any

from memstore_gnn.features.behaviour.limits import ITEMS, Fuel, TooMuch, Unsupported, check_power, checked

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

_WIDE = re.compile(r"\d{3}|[.\[!]|\{[^{}]*+\{")
"""What a format text may not hold: widths of three digits, attributes, subscripts, nested fields."""


class Namespace:
    """A module as a program sees it: a fixed set of names."""

    __slots__ = ("members",)

    def __init__(self, members: dict[str, Any]) -> None:
        self.members = members


def plain_iterator(value: Any, fuel: Fuel) -> Iterable[Any]:
    """Iterate a plain value, one step a turn; refuse anything else."""
    if isinstance(value, Namespace) or (callable(value) and not isinstance(value, type)):
        raise TypeError("object is not iterable")
    for item in value:
        fuel.burn()
        yield item


def method(value: Any, name: str, fuel: Fuel) -> Callable[..., Any]:
    """A method of a plain value.

    Raises:
        Unsupported: the value or the method is not on the list.
    """
    kind = type(value)
    if name not in METHODS.get(kind, ()):
        if name.startswith("_") or kind not in METHODS:
            raise Unsupported(f"{kind.__name__}.{name}")
        raise AttributeError(f"{kind.__name__!r} object has no attribute {name!r}")
    bound = getattr(value, name)
    if kind is str and name in ("ljust", "rjust", "center", "zfill"):
        return functools.partial(_padded, bound)
    if kind is str and name == "format":
        _check_format(value)
    if kind is str and name == "replace":
        return functools.partial(_replaced, value)
    if kind is str and name == "join":
        return lambda parts: _joined(value, list(plain_iterator(parts, fuel)))
    return bound


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
    """`format(value, spec)` of a plain value with a short specification."""
    if re.search(r"\d{3}", spec):
        raise Unsupported("format")
    return format(value, spec)


def builtins(fuel: Fuel) -> dict[str, Any]:
    """The builtin names of a program."""

    def listed(values: Any = ()) -> list[Any]:
        return list(plain_iterator(values, fuel))

    def over(function: Callable[..., Any]) -> Callable[..., Any]:
        """A function of an iterable that may also be called with its items."""

        def call(*values: Any, **options: Any) -> Any:
            return checked(function(listed(values[0]), *values[1:], **options) if values else function())

        call.stands_for = function  # type: ignore[attr-defined]
        return call

    def extreme(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **options: Any) -> Any:
            return function(listed(values[0]) if len(values) == 1 else values, **options)

        return call

    def zipped(*values: Any, strict: bool = False) -> list[Any]:
        return list(zip(*(plain_iterator(v, fuel) for v in values), strict=strict))

    def mapped(function: Callable[..., Any], *values: Any) -> list[Any]:
        return [function(*items) for items in zip(*(plain_iterator(v, fuel) for v in values), strict=False)]

    def filtered(function: Callable[..., Any] | None, values: Any) -> list[Any]:
        return [v for v in plain_iterator(values, fuel) if (v if function is None else function(v))]

    def power(base: Any, exponent: Any, modulus: Any = None) -> Any:
        if modulus is None:
            check_power(base, exponent)
        return pow(base, exponent, modulus)

    def dicted(*values: Any, **named: Any) -> Any:
        return checked(dict(*values, **named))

    dicted.stands_for = dict  # type: ignore[attr-defined]

    def silent(*values: Any, **named: Any) -> None:
        return None

    def nexted(values: Any, *default: Any) -> Any:
        # Generators are made as lists: `next` of one is its first item.
        for item in plain_iterator(values, fuel):
            return item
        if default:
            return default[0]
        raise StopIteration

    names: dict[str, Any] = {
        f.__name__: f
        for f in (
            abs,
            bin,
            bool,
            chr,
            complex,
            divmod,
            float,
            hash,
            hex,
            int,
            len,
            oct,
            ord,
            range,
            repr,
            round,
            str,
            slice,
        )
    }
    names |= {
        "list": over(list),
        "tuple": over(tuple),
        "set": over(set),
        "frozenset": over(frozenset),
        "sum": over(sum),
    }
    names |= {"sorted": over(sorted), "any": over(any), "all": over(all), "min": extreme(min), "max": extreme(max)}
    names |= {"enumerate": over(lambda v, start=0: list(enumerate(v, start))), "reversed": over(lambda v: v[::-1])}
    names |= {"zip": zipped, "map": mapped, "filter": filtered, "pow": power, "iter": listed, "next": nexted}
    names |= {"dict": dicted, "print": silent}
    names["format"] = lambda value, spec="": format_value(value, spec)
    names |= {"callable": callable, "isinstance": _is_instance} | EXCEPTIONS
    by_type = {getattr(member, "stands_for", member): member for member in names.values() if _is_kind(member)}

    def type_of(value: Any) -> Any:
        if type(value) not in by_type:
            raise Unsupported("type")
        return by_type[type(value)]

    return names | {"type": type_of}


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
