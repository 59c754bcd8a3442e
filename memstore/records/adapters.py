"""The shapes of row that other tools write, translated into memstore's own keys.

    memstore's own      has `query`
    verl rollout dump   has `input` and `output`; also `gts`, `score`, `step`
    TRL completions     has `prompt` and `completion`; a column for each reward function; `step`, `advantage`

A translation drops nothing: what has no key of its own stays under its old one and ends in the metadata. A score
that says of itself that it was predicted is no ground truth: it goes to the metadata and the reward stays empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.text.chat import conversation, decoded_prompt, plain_output

RECORD_KEYS = frozenset(
    [
        "query", "answer", "thinking", "response", "query_id", "dataset", "domain", "gold", "policy", "run", "step",
        "sample_index", "reward", "reward_source", "mean_logprob", "finish_reason", "metadata",
    ]
)  # fmt: skip
_VERL_KEYS = frozenset(["input", "output", "gts", "score"])
_TRL_KEYS = frozenset(["prompt", "completion"])
KNOWN_KEYS = RECORD_KEYS | _VERL_KEYS | _TRL_KEYS
"""Keys that are read, in whichever shape; every other one joins the metadata."""

_CONTENT_KEYS = frozenset(["query", "answer", "thinking", "response", "gold", "reward"])
"""Own keys that mean something else in a foreign row: what a reward function reported as `answer`, say."""
_TRL_NUMBERS = frozenset(["advantage", "step"])
_SOURCE_KEYS = ("source", "src")
_NO_GROUND_TRUTH = frozenset(["predicted", "gnn", "unscored"])

REQUIRED_COLUMNS = (("query", "answer"), ("query", "response"), ("input", "output"), ("prompt", "completion"))
"""A table of rollouts has the columns of one of these pairs."""


def adapt_row(values: Mapping[str, Any], reward_column: str | None) -> Mapping[str, Any]:
    """`values` under memstore's own keys.

    Args:
        reward_column: the key that holds the reward, where it is not the usual one of the shape.

    Raises:
        RecordError: the reward column is missing, or cannot be told from others.
    """
    if reward_column is not None and reward_column not in values:
        raise RecordError(f"there is no key {reward_column!r}, which was named as the reward column")
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
    return _aside(own, {"reward": values["reward"]} if "reward" in values else {})


def _from_verl(values: Mapping[str, Any], reward_column: str) -> dict[str, Any]:
    own, extra = _shared(values, _VERL_KEYS, reward_column)
    prompt, output = values["input"], values["output"]
    if isinstance(prompt, str):
        prompt, system = decoded_prompt(prompt)
        if system:
            extra["system"] = system
    own |= {"query": prompt, "response": plain_output(output) if isinstance(output, str) else output}
    own["gold"] = _gold(values.get("gts"))
    if reward_column != "score" and "score" in values:
        extra["score"] = values["score"]
    return _aside(own, extra)


def _from_trl(values: Mapping[str, Any], reward_column: str | None) -> dict[str, Any]:
    own, extra = _shared(values, _TRL_KEYS, reward_column)
    prompt, completion = values["prompt"], values["completion"]
    if isinstance(prompt, list):
        prompt, system, _ = conversation(prompt)
    elif isinstance(prompt, str):
        prompt, system = decoded_prompt(prompt)
    else:
        system = ""
    if isinstance(completion, list):
        completion, _, thinking = conversation(completion)
        if thinking:
            own["thinking"] = thinking
    elif isinstance(completion, str):
        completion = plain_output(completion)
    if system:
        extra["system"] = system
    own |= {"query": prompt, "response": completion}
    return _aside(own, extra)


def _shared(
    values: Mapping[str, Any], shape: frozenset[str], reward_column: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The own keys that a foreign row may carry with its reward, and what is left of it."""
    own: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, value in values.items():
        if key in shape or key == reward_column:
            continue
        (extra if key not in RECORD_KEYS or key in _CONTENT_KEYS else own)[key] = value
    if reward_column is not None:
        reward = values.get(reward_column)
        if any(_said(values.get(key)) in _NO_GROUND_TRUTH for key in _SOURCE_KEYS):
            extra[reward_column] = reward
        else:
            own["reward"] = None if shape is _TRL_KEYS and _is_nan(reward) else reward
    return own, extra


def _only_float(values: Mapping[str, Any]) -> str | None:
    """The reward column of a TRL row: its one column of floats. A null may be a float that is missing."""
    taken = KNOWN_KEYS | _TRL_NUMBERS
    floats = [key for key, value in values.items() if key not in taken and (value is None or isinstance(value, float))]
    if len(floats) > 1:
        names = ", ".join(map(repr, sorted(floats)))
        raise RecordError(f"several columns may be the reward ({names}); pass --reward-column NAME to choose one")
    return floats[0] if floats else None


def _said(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def _is_nan(value: object) -> bool:
    """TRL writes NaN where a reward function had no word on a completion."""
    return isinstance(value, float) and value != value


def _gold(value: object) -> object:
    """verl's ground truth: as it is, out of its dict or list of one, or as JSON."""
    if isinstance(value, Mapping) and "ground_truth" in value:
        value = value["ground_truth"]
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping | list):
        try:
            return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
        except (TypeError, ValueError, RecursionError) as error:
            raise RecordError(f"gts is no JSON: {error}") from error
    return value


def _aside(own: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """`own` with what has no own key in its metadata."""
    if not extra:
        return own
    given = own.get("metadata")
    if isinstance(given, Mapping) and extra.keys().isdisjoint(given):
        extra = {**extra, **given}
    elif given:
        extra = {**extra, "metadata": given}
    own["metadata"] = extra
    return own
