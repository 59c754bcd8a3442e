"""What is wrong with a plan, as a clause that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError


def clause(error: ValidationError, plan: type[BaseModel]) -> str:
    """The first finding."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"the key {key} is missing"
    if first["type"] == "extra_forbidden":
        near = get_close_matches(str(first["loc"][-1]), _keys_at(plan, first["loc"][:-1]), 1)
        return f"the key {key} is unknown" + (f"; did you mean {near[0]}?" if near else "")
    if first["type"] == "tuple_type":
        return f"{key} must be a list; write {_listed(key, first['input'])}"
    if first["type"] == "too_short":
        return f"{key} is empty; name at least one"
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] != "value_error":
        message = f"is {first['input']!r:.80}: {message[:1].lower()}{message[1:]}"
    return f"{key} {message}".strip()


def _listed(key: str, value: object) -> str:
    """How a list is written in place of a single value."""
    if isinstance(value, Mapping):
        return f"[[{key}]] in place of [{key}]"
    return f'{key.rpartition(".")[2]} = ["{value}"]' if isinstance(value, str) else f"[{value}]"


def _keys_at(plan: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys of the table at this place of a plan."""
    table: Any = plan
    for part in place:
        if isinstance(part, int):
            continue
        kind = table.model_fields[part].annotation
        table = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else kind.__args__[0]
    return list(table.model_fields)
