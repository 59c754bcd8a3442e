"""Modules that an interpreted program can import: fixed sets of pure functions of plain values."""

from __future__ import annotations

import bisect
import collections
import functools
import heapq
import itertools
import math
import string
from collections.abc import Callable
from types import ModuleType
from typing import Any

from memstore_gnn.programs.library import Namespace, plain_iterator
from memstore_gnn.programs.limits import ITEMS, Fuel, TooMuch, checked

_MATH = (
    "ceil floor sqrt log log2 log10 exp sin cos tan asin acos atan atan2 hypot gcd lcm fabs fmod isclose isnan isinf "
    "isqrt trunc pow radians degrees copysign dist modf pi e inf nan tau"
)
_ITERTOOLS = (
    "permutations combinations combinations_with_replacement product accumulate chain islice starmap takewhile "
    "dropwhile zip_longest pairwise compress filterfalse"
)
_TYPING = (
    "List Dict Tuple Set Optional Any Union Callable Iterable Sequence Iterator Generator FrozenSet Mapping "
    "DefaultDict Deque Text"
)
_COLLECTIONS = "Counter deque OrderedDict defaultdict"
_HEAPQ = "heappush heappop heapify nlargest nsmallest heappushpop heapreplace"
_BISECT = "bisect bisect_left bisect_right insort insort_left insort_right"
_STRING = "ascii_letters ascii_lowercase ascii_uppercase digits punctuation whitespace hexdigits"


def modules(fuel: Fuel) -> dict[str, Namespace]:
    """The modules by name."""
    known = {
        "math": _taken(math, _MATH) | _arithmetic(fuel),
        "itertools": {name: _listed(getattr(itertools, name), fuel) for name in _ITERTOOLS.split()} | _grouping(fuel),
        "collections": _taken(collections, _COLLECTIONS),
        "heapq": _taken(heapq, _HEAPQ),
        "bisect": _taken(bisect, _BISECT),
        "string": _taken(string, _STRING),
        "typing": dict.fromkeys(_TYPING.split()),
        "functools": _functions(fuel),
        "copy": {"copy": _copied, "deepcopy": _deep_copied},
        "operator": _operators(),
    }
    return {name: Namespace(members) for name, members in known.items()}


def _taken(module: ModuleType, names: str) -> dict[str, Any]:
    return {name: getattr(module, name) for name in names.split()}


def _listed(function: Callable[..., Any], fuel: Fuel) -> Callable[..., list[Any]]:
    """Return the items of an iterator as a list, within the limit of items."""

    def call(*values: Any, **options: Any) -> list[Any]:
        made = list(itertools.islice(function(*values, **options), ITEMS + 1))
        fuel.burn(len(made))
        checked(made)
        return made

    return call


def _arithmetic(fuel: Fuel) -> dict[str, Any]:
    def small(function: Callable[..., Any], most: int) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            if any(isinstance(v, int) and abs(v) > most for v in values):
                raise TooMuch("integer")
            return function(*values)

        return call

    def product(values: Any, *, start: Any = 1) -> Any:
        return functools.reduce(lambda a, b: checked(a * b), plain_iterator(values, fuel), start)

    return {
        "factorial": small(math.factorial, 300),
        "comb": small(math.comb, 500),
        "perm": small(math.perm, 300),
        "prod": product,
    }


def _grouping(fuel: Fuel) -> dict[str, Any]:
    def groupby(values: Any, key: Callable[[Any], Any] | None = None) -> list[tuple[Any, list[Any]]]:
        return [(k, list(g)) for k, g in itertools.groupby(list(plain_iterator(values, fuel)), key)]

    return {"groupby": groupby}


def _functions(fuel: Fuel) -> dict[str, Any]:
    def reduced(function: Callable[..., Any], values: Any, *start: Any) -> Any:
        return functools.reduce(lambda a, b: checked(function(a, b)), list(plain_iterator(values, fuel)), *start)

    # Decorators are not applied, so the caches only need a name.
    return {"reduce": reduced, "cmp_to_key": functools.cmp_to_key, "lru_cache": None, "cache": None}


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, list | dict | set) else value


def _deep_copied(value: Any, depth: int = 0) -> Any:
    if depth > 20:
        raise TooMuch("depth")
    if isinstance(value, list):
        return [_deep_copied(v, depth + 1) for v in value]
    if isinstance(value, dict):
        return {k: _deep_copied(v, depth + 1) for k, v in value.items()}
    return _copied(value)


def _operators() -> dict[str, Callable[..., Any]]:
    return {
        "add": lambda a, b: checked(a + b),
        "sub": lambda a, b: a - b,
        "itemgetter": lambda *keys: lambda v: v[keys[0]] if len(keys) == 1 else tuple(v[k] for k in keys),
        "truediv": lambda a, b: a / b,
        "floordiv": lambda a, b: a // b,
    }
