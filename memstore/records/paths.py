"""Paths: choose the values of a rollout in rows that have no known shape, as `--map query=PATH,response=PATH`.

A path is the keys and positions that lead to a value, joined by dots: `messages.0.content`, `choices.-1.text`. A key
that has dots itself is written as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from memstore.errors import InputError, RecordError
from memstore.records.adapters import RECORD_KEYS
from memstore.records.layouts import key_list
from memstore.text.chat import read_completion, read_prompt

_MISSING = object()
_POSITION = re.compile(r"-?[0-9]{1,9}")
_TEXTS = ("response", "answer", "thinking")


def parse_paths(text: str) -> dict[str, str]:
    """The paths by key of an option `query=PATH,answer=PATH`.

    Raises:
        InputError: it is not of this form, names a key that a record lacks, or leaves out the query or the response.
    """
    paths: dict[str, str] = {}
    for part in text.split(","):
        key, equals, path = (word.strip() for word in part.partition("="))
        if not equals or not path or not key:
            raise InputError(f"--map has {part!r}, which is not KEY=PATH; write, for example, query=doc.question")
        if key not in RECORD_KEYS or key == "metadata":
            known = ", ".join(sorted(RECORD_KEYS - {"metadata"}))
            raise InputError(f"--map has the key {key!r}, but a rollout has {known}")
        if key in paths:
            raise InputError(f"--map has two paths for {key}; keep one of them")
        paths[key] = path
    if "query" not in paths or not any(key in paths for key in _TEXTS):
        raise InputError("--map needs query=PATH and response=PATH or answer=PATH")
    return paths


def value_at(values: object, path: str) -> Any:
    """The value at a path; None if there is none."""
    found = _at(values, path.split("."))
    return None if found is _MISSING else found


def has_path(values: object, path: str) -> bool:
    """Whether a row has a path, also if its value is missing there."""
    return _at(values, path.split(".")) is not _MISSING


def mapped(values: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """The row of a rollout with the values at these paths. Messages become the texts of a query and a response.

    Raises:
        RecordError: the row has no query there, or no text that the policy wrote.
    """
    if not has_path(values, paths["query"]):
        raise RecordError(f"the row has nothing at {paths['query']!r} (query); it has the keys {key_list(values)}")
    row: dict[str, Any] = {key: value_at(values, path) for key, path in paths.items()}
    if isinstance(row["query"], list):
        prompt = read_prompt(row["query"])
        row["query"] = prompt.query if prompt else None
    if isinstance(row.get("response"), list):
        row["response"] = read_completion(row["response"])
    # With a gold answer, even a missing one, `answer` is the rollout's own.
    row.setdefault("gold", None)
    return row


def _at(values: object, steps: Sequence[str]) -> object:
    if not steps:
        return values
    if isinstance(values, Mapping):
        for count in range(len(steps), 0, -1):
            key = ".".join(steps[:count])
            if key in values and (found := _at(values[key], steps[count:])) is not _MISSING:
                return found
    elif isinstance(values, list) and _POSITION.fullmatch(steps[0]):
        position = int(steps[0])
        if -len(values) <= position < len(values):
            return _at(values[position], steps[1:])
    return _MISSING
