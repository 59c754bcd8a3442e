"""Parameters of a user's Cypher on LadybugDB, which needs one type for each list and for each property of an object.

LadybugDB converts a list of mixed types without an error where it can: `["a", true]` becomes `[true, true]`, and a list
beside a text becomes a text. It fails on an empty list where nothing in the query tells the type of its items. So lists
of mixed types are refused here, and values without any type, such as `[]`, are written into the query.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from memstore.errors import InputError

INTEGERS = range(-(2**63), 2**63)
"""Integers that a graph stores."""
MAX_DEPTH = 20
"""Lists and objects within each other."""
_Kind: TypeAlias = "str | tuple[_Kind] | dict[str, _Kind] | None"
"""Type of a value: a name, None where it is unknown, the type of a list's items, or the types of an object's values."""
_WORDS: Mapping[type, str] = {
    bool: "a Boolean",
    int: "a number",
    float: "a number",
    Decimal: "a number",
    str: "a text",
    dt.datetime: "a time",
}


def with_parameters(tokens: re.Pattern[str], query: str, parameters: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The query with the values of parameters that LadybugDB cannot take, and the other parameters that it uses.

    Args:
        tokens: matches the tokens of a query.

    Raises:
        InputError: a list mixes types, an object has a null or an empty list, a number does not fit into 64 bits, or a
            value is nested too deep.
    """
    found = set(tokens.findall(query))
    used = {f"${name}": value for name, value in parameters.items() if f"${name}" in found}
    written: dict[str, str] = {}
    for token, value in used.items():
        kind = _kind(value, token, MAX_DEPTH)
        if isinstance(kind, (tuple, dict)) and not _is_known(kind):
            written[token] = _literal(value, token)
    text = tokens.sub(lambda token: written.get(token[0], token[0]), query)
    return text, {token[1:]: _in_order(value) for token, value in used.items() if token not in written}


def _in_order(value: Any) -> Any:
    """A value with the keys of its objects in one order: LadybugDB assigns those of a list by their place."""
    if isinstance(value, list):
        return [_in_order(item) for item in value]
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value, key=str)}
    return value


def _kind(value: Any, name: str, depth: int) -> _Kind:
    """The type of a value; `name` is that of its parameter."""
    if value is None:
        return None
    if isinstance(value, (list, dict)):
        if not depth:
            raise InputError(
                f"the parameter {name} is nested too deep; write at most {MAX_DEPTH} lists or objects in each other"
            )
        if isinstance(value, list):
            return (_kind_of_items(value, name, depth - 1),)
        return {str(key): _kind(item, name, depth - 1) for key, item in value.items()}
    if isinstance(value, int) and value not in INTEGERS:
        raise InputError(f"the number {value} of the parameter {name} does not fit into 64 bits; write it as a text")
    return next((word for kind, word in _WORDS.items() if isinstance(value, kind)), f"a {type(value).__name__}")


def _kind_of_items(items: list[Any], name: str, depth: int) -> _Kind:
    common: _Kind = None
    for item in items:
        kind = _kind(item, name, depth)
        if kind is None and isinstance(common, (tuple, dict)):  # LadybugDB makes a text of such a list
            raise InputError(f"a list of the parameter {name} has a null after a list or an object; leave it out")
        common = _common(common, kind, name)
    return common


def _common(one: _Kind, other: _Kind, name: str) -> _Kind:
    """The type of a list's items, of which some have one type and some another.

    Raises:
        InputError: the types differ.
    """
    if one is None or other is None or one == other:
        return other if one is None else one
    if isinstance(one, tuple) and isinstance(other, tuple):
        return (_common(one[0], other[0], name),)
    if isinstance(one, dict) and isinstance(other, dict):
        if one.keys() != other.keys():
            raise InputError(
                f"the objects of a list in the parameter {name} have different keys, and an embedded memory needs the "
                "same in each; add the missing keys with null"
            )
        return {key: _common(kind, other[key], name) for key, kind in one.items()}
    raise InputError(
        f"a list of the parameter {name} has {_words(one)} and {_words(other)}, and an embedded memory needs one type "
        "for all items; write all as texts, or pass a list for each type"
    )


def _words(kind: _Kind) -> str:
    return kind if isinstance(kind, str) else "a list" if isinstance(kind, tuple) else "an object"


def _is_known(kind: _Kind) -> bool:
    """Whether all parts of a type are known."""
    if isinstance(kind, tuple):
        return _is_known(kind[0])
    return all(map(_is_known, kind.values())) if isinstance(kind, dict) else kind is not None


def _literal(value: Any, name: str) -> str:
    """A value of lists and nulls as Cypher.

    Raises:
        InputError: it has an object.
    """
    text = json.dumps(value, default=str).replace("null", "NULL")
    if not set(text) <= set("[], NUL"):
        raise InputError(
            f"an object of the parameter {name} has a null or an empty list, whose type an embedded memory cannot "
            "tell; leave this key out, or write the object in the query"
        )
    return text
