"""Adapters: convert rows of other tools to memstore's own keys.

    format              recognized by             further keys
    memstore            `query`                   see `RECORD_KEYS`
    verl rollout dump   `input`, `output`         `gts`, `score`, `step`
    TRL completions     `prompt`, `completion`    a column per reward function; `step`, `advantage`

A conversion drops nothing: values without a key of their own keep their old key in the metadata. A score that is marked
as predicted is not a ground truth: it is kept in the metadata, and the reward stays empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from memstore.errors import RecordError
from memstore.text.chat import read_completion, read_prompt

RECORD_KEYS = frozenset(
    [
        "query", "answer", "thinking", "response", "query_id", "dataset", "domain", "gold", "policy", "run", "step",
        "sample_index", "reward", "reward_source", "mean_logprob", "finish_reason", "metadata",
    ]
)  # fmt: skip
"""Keys of a memstore row."""
_VERL_KEYS = frozenset(["input", "output", "gts", "score"])
_TRL_KEYS = frozenset(["prompt", "completion"])
KNOWN_KEYS = RECORD_KEYS | _VERL_KEYS | _TRL_KEYS
"""Keys that any of the formats defines; all others are stored in the metadata."""

_CONTENT_KEYS = frozenset(["query", "answer", "thinking", "response", "gold", "reward"])
"""Keys of a memstore row that mean something else in another format, such as the `answer` of a reward function."""
_TRL_NUMBERS = frozenset(["advantage", "step"])
"""Numeric columns of TRL that are not rewards."""
_SOURCE_KEYS = ("source", "src")
"""Keys that give the origin of a score."""
_PREDICTED_SOURCES = frozenset(["predicted", "gnn", "unscored"])

REQUIRED_COLUMNS = (("query", "answer"), ("query", "response"), ("input", "output"), ("prompt", "completion"))
"""A table of rollouts must have both columns of one of these pairs."""


def adapt_row(values: Mapping[str, Any], reward_column: str | None) -> Mapping[str, Any]:
    """Convert a row to memstore's own keys.

    Args:
        reward_column: key of the reward; None uses the one that the format defines.

    Raises:
        RecordError: the reward column is missing or ambiguous.
    """
    if reward_column is not None and reward_column not in values:
        raise RecordError(f"the row has no key {reward_column!r}, which was named as the reward column")
    if "query" in values:
        return _with_reward(values, reward_column) if reward_column not in (None, "reward") else values
    if "input" in values and "output" in values:
        return _from_verl(values, reward_column or "score")
    if "prompt" in values and "completion" in values:
        return _from_trl(values, reward_column or _only_float(values))
    return values


def _with_reward(values: Mapping[str, Any], column: str | None) -> dict[str, Any]:
    own = {key: value for key, value in values.items() if key not in (column, "reward")}
    own["reward"] = values[column] if column else None
    return _with_metadata(own, {"reward": values["reward"]} if "reward" in values else {})


def _from_verl(values: Mapping[str, Any], reward_column: str) -> dict[str, Any]:
    own, extra = _split_keys(values, _VERL_KEYS, reward_column)
    own |= _texts(values["input"], values["output"], extra)
    own["gold"] = gold_text(values.get("gts"))
    if reward_column != "score" and "score" in values:
        extra["score"] = values["score"]
    return _with_metadata(own, extra)


def _from_trl(values: Mapping[str, Any], reward_column: str | None) -> dict[str, Any]:
    own, extra = _split_keys(values, _TRL_KEYS, reward_column)
    own |= _texts(values["prompt"], values["completion"], extra)
    return _with_metadata(own, extra)


def _texts(prompt: object, completion: object, extra: dict[str, Any]) -> dict[str, Any]:
    """Query and response of a row; a system prompt is added to `extra`."""
    read, response = read_prompt(prompt), read_completion(completion)
    if read is not None and read.system:
        extra["system"] = read.system
    return {
        "query": prompt if read is None else read.query,
        "response": completion if response is None else response,
    }


def _split_keys(
    values: Mapping[str, Any], format_keys: frozenset[str], reward_column: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a row into the keys that memstore shares, with the reward, and all others."""
    own: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in values.items():
        if key in format_keys or key == reward_column:
            continue
        (extra if key not in RECORD_KEYS or key in _CONTENT_KEYS else own)[key] = value
    if reward_column is not None:
        reward = values.get(reward_column)
        if any(_source_name(values.get(key)) in _PREDICTED_SOURCES for key in _SOURCE_KEYS):
            extra[reward_column] = reward
        else:
            own["reward"] = None if format_keys is _TRL_KEYS and _is_nan(reward) else reward
    return own, extra


def _only_float(values: Mapping[str, Any]) -> str | None:
    """The reward column of a TRL row: its only column of floats. A null may be a missing float."""
    taken = KNOWN_KEYS | _TRL_NUMBERS
    floats = [key for key, value in values.items() if key not in taken and (value is None or isinstance(value, float))]
    if len(floats) > 1:
        names = ", ".join(map(repr, sorted(floats)))
        raise RecordError(f"several columns may be the reward ({names}); choose one with --reward-column NAME")
    return floats[0] if floats else None


def _source_name(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _is_nan(value: object) -> bool:
    """Whether a value is NaN, which TRL writes if a reward function returned None."""
    return isinstance(value, float) and value != value


def gold_text(value: object) -> object:
    """verl's ground truth: the value itself, the only value of a dict or list, or JSON; None if it is missing."""
    if hasattr(value, "tolist"):  # numpy
        value = value.tolist()
    if isinstance(value, Mapping) and "ground_truth" in value:
        value = value["ground_truth"]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if _is_missing(value):
        return None
    if isinstance(value, Mapping | list):
        try:
            return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(f"gts cannot be written as JSON: {error}") from error
    return value


def _is_missing(value: object) -> bool:
    """Whether a value is one that tables use for a missing one: None, NaN, NaT, NA or an empty list."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, float | Decimal):
        return value != value
    return isinstance(value, list | tuple | Mapping) and not value


def _with_metadata(own: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Add values without a key of their own to the metadata."""
    if not extra:
        return own
    given = own.get("metadata")
    if isinstance(given, Mapping) and extra.keys().isdisjoint(given):
        extra = {**extra, **given}
    elif given:
        extra = {**extra, "metadata": given}
    own["metadata"] = extra
    return own
