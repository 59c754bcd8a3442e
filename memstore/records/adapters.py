"""Adapters: convert rows of other tools to memstore's own keys.

    format              recognized by             further keys
    memstore            `query`                   see `RECORD_KEYS`
    verl rollout dump   `input`, `output`         `gts`, `score`, `step`
    TRL completions     `prompt`, `completion`    `reward`, or a column per reward function; `step`, `advantage`
    verifiers results   as TRL's                  `answer` (the gold answer), `reward`
    chats               `messages`                `answer` (the gold answer), `reward`
    question, response  `prompt`, `response`      the same; also `question` or `problem` for `prompt`

The `answer` beside a response of another tool is the gold answer of its query. In a row with `query` and `response` it
is the rollout's own answer only if the row also has `thinking` or `gold`.

A score of -1 is a reward of 0. Any other score outside 0..1 is replaced by the verdict `acc`, if the row has one.

A conversion drops nothing: values without a key of their own keep their old key in the metadata. A score that is marked
as predicted is not a ground truth: it is kept in the metadata, and the reward stays empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from memstore.errors import RecordError
from memstore.records.layouts import as_prompt_and_completion, key_list, missing_keys
from memstore.text.chat import read_completion, read_prompt

RECORD_KEYS = frozenset(
    [
        "query", "answer", "thinking", "response", "query_id", "dataset", "domain", "gold", "policy", "run", "step",
        "sample_index", "split", "reward", "reward_source", "mean_logprob", "finish_reason", "features", "metadata",
    ]
)  # fmt: skip
"""Keys of a memstore row."""
_VERL_KEYS = frozenset(["input", "output", "gts", "score"])
_TRL_KEYS = frozenset(["prompt", "completion"])
KNOWN_KEYS = RECORD_KEYS | _VERL_KEYS | _TRL_KEYS
"""Keys that any of the formats defines; all others are stored in the metadata."""

_CONTENT_KEYS = frozenset(["query", "answer", "thinking", "response", "gold", "reward"])
"""Keys of a memstore row that mean something else in another format, such as the `answer` of a reward function."""
_TRL_NUMBERS = frozenset(
    [
        "advantage",
        "advantages",
        "step",
        "probability",
        "mean_logprob",
        "logprob",
        "entropy",
        "kl",
        "temperature",
        "top_p",
    ]
)
"""Numeric columns of TRL, its hooks and verifiers that are not rewards."""
_TIMES = ("_ms", "_s", "_seconds")
"""Endings of columns that hold durations."""
_VERDICT = "acc"
"""verl's verdict beside a score: true or false, 1 or 0."""
_SOURCE_KEYS = ("source", "src")
"""Keys that give the origin of a score."""
_PREDICTED_SOURCES = frozenset(["predicted", "remembered", "gnn", "unscored"])

REQUIRED_COLUMNS = (
    ("query", "answer"), ("query", "response"), ("input", "output"), ("prompt", "completion"), ("prompt", "response"),
    ("question", "response"), ("problem", "response"), ("messages",),
)  # fmt: skip
"""A table of rollouts must have the columns of one of these."""


def adapt_row(values: Mapping[str, Any], reward_column: str | None) -> Mapping[str, Any]:
    """Convert a row to memstore's own keys.

    Args:
        reward_column: key of the reward; None uses the one that the format defines.

    Raises:
        RecordError: the reward column is missing or ambiguous.
    """
    if reward_column is not None and reward_column not in values:
        raise RecordError(
            f"the row has no key {reward_column!r}, which was named as the reward column; it has {key_list(values)}"
        )
    if "query" in values:
        if _answer_is_gold(values):
            values = {**values, "gold": _extracted_gold(gold_text(values["answer"])), "answer": None}
        return _with_reward(values, reward_column) if reward_column not in (None, "reward") else values
    if isinstance(values.get("input"), str | list) and isinstance(values.get("output"), str) and not _is_alpaca(values):
        return _from_verl(values, reward_column or "score")
    trl = "prompt" in values and "completion" in values
    renamed = values if trl else as_prompt_and_completion(values)
    if renamed is None:
        raise RecordError(missing_keys(values))
    return _from_trl(renamed, reward_column or ("reward" if "reward" in renamed else _only_float(renamed)))


def _answer_is_gold(values: Mapping[str, Any]) -> bool:
    """Whether the `answer` beside a `response` is the gold answer, as in data sets of the Hugging Face Hub."""
    if values.get("answer") is None or values.get("response") is None:
        return False
    return "gold" not in values and "thinking" not in values


def _is_alpaca(values: Mapping[str, Any]) -> bool:
    """Whether the row has Alpaca's columns, whose `input` is only a part of the question."""
    return "instruction" in values and "gts" not in values


def _extracted_gold(value: object) -> object:
    """The gold answer in a worked solution of GSM8K (`... #### 12`); any other value as it is."""
    if isinstance(value, str) and "####" in value:
        return value.rpartition("####")[2].strip() or value
    return value


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
    for key in ("answer", "gold"):
        if key in extra:
            own["gold"] = _extracted_gold(gold_text(extra.pop(key)))
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
            own["reward"] = _reward(reward, values)
            if own["reward"] is not reward and not is_nan(reward):
                extra[reward_column] = reward
    return own, extra


def _reward(score: object, values: Mapping[str, Any]) -> object:
    """The reward of a score: 0 for -1, and verl's verdict in place of another score outside 0..1.

    Raises:
        RecordError: the score lies outside 0..1 and the row has no verdict.
    """
    if is_nan(score):
        return None
    if not isinstance(score, int | float) or 0.0 <= score <= 1.0:
        return score
    verdict = values.get(_VERDICT)
    if verdict in (0, 1):
        return verdict
    if score == -1:
        return 0.0
    raise RecordError(
        f"reward is {score!r:.40}; it must lie between 0 and 1; choose another column with --reward-column NAME (the "
        f"row has {key_list(values)}), or rescale it"
    )


def _only_float(values: Mapping[str, Any]) -> str | None:
    """The reward column of a TRL row: its only column of floats. A null may be a missing float."""
    taken = KNOWN_KEYS | _TRL_NUMBERS
    floats = [
        key
        for key, value in values.items()
        if key not in taken and not key.endswith(_TIMES) and (value is None or isinstance(value, float))
    ]
    if len(floats) > 1:
        names = ", ".join(map(repr, sorted(floats)))
        raise RecordError(f"several columns may be the reward ({names}); choose one with --reward-column NAME")
    return floats[0] if floats else None


def _source_name(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def is_nan(value: object) -> bool:
    """Whether a value is one that tables and TRL write for a missing one: NaN, NaT or NA."""
    if isinstance(value, float | Decimal):
        return value != value
    return type(value).__name__ in ("NAType", "NaTType")


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
    """Whether a ground truth is missing: None, NaN, NaT, NA or an empty list."""
    return value is None or is_nan(value) or (isinstance(value, list | tuple | Mapping) and not value)


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
