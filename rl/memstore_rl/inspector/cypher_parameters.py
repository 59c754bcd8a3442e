"""Parameters of a Cypher query, which a person writes as a JSON object."""

from __future__ import annotations

import json
import math
from typing import Any

from memstore.errors import InputError

MAX_DEPTH = 20
"""Lists and objects within each other."""
INTEGERS = range(-(2**63), 2**63)
"""Integers that a graph stores."""


def parse_parameters(text: str) -> dict[str, Any]:
    """Parameters from a JSON object.

    Raises:
        InputError: it is something else, or it has a value that no graph stores.
    """
    try:
        found = json.loads(text, parse_int=_integer) if text.strip() else {}
    except json.JSONDecodeError as error:
        raise InputError(f'the parameters are not JSON ({error}); write an object such as {{"limit": 20}}') from error
    except RecursionError as error:
        raise _too_deep() from error
    if not isinstance(found, dict):
        raise InputError('the parameters are no JSON object; write one such as {"limit": 20}')
    _check(found, MAX_DEPTH)
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20 or int(digits) not in INTEGERS:
        raise InputError(
            f"the number {digits[:20]}{'…' * (len(digits) > 20)} of the parameters does not fit into 64 bits; "
            "write it as a text, or with a decimal point"
        )
    return int(digits)


def _check(value: Any, depth: int) -> None:
    """Refuse texts that are not Unicode, numbers that are not finite, and what is nested more than `depth` deep."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                "a text of the parameters has half of a surrogate pair, which is not Unicode; remove it"
            ) from error
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"a number of the parameters is {value}; write a finite one, or null")
    elif isinstance(value, (dict, list)):
        if not depth:
            raise _too_deep()
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check(item, depth - 1)


def _too_deep() -> InputError:
    return InputError(f"the parameters are nested too deep; write at most {MAX_DEPTH} lists or objects in each other")
