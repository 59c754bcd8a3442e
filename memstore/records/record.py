"""`Record`: a rollout, validated once when its row is read.

A reader yields `Row`s, which are mappings with a line number. `parse_record` converts a row to a `Record`, or raises
`RecordError` with the reason that goes to the rejects file. Later stages rely on validated values.

Rows of other tools are converted first (`memstore.records.adapters`). Values under unknown keys go to the metadata.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple, get_args

from memstore.errors import RecordError
from memstore.records.adapters import KNOWN_KEYS, RECORD_KEYS, adapt_row, is_nan
from memstore.records.layouts import key_list
from memstore.text.domain import infer_domain
from memstore.text.identity import readable_query
from memstore.text.split import split_response
from memstore.types import AUDIT_SPLIT, DOMAINS, Domain, RewardSource

__all__ = ["KNOWN_KEYS", "Record", "RecordDefaults", "Row", "parse_record"]

_INT64 = range(-(2**63), 2**63)
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_REWARD_SOURCES: tuple[RewardSource, ...] = get_args(RewardSource)
_QUOTED = 40
"""Longest quotation of an invalid value in a reason, in characters."""

TRUNCATED = "length"
"""The `finish_reason` of a truncated rollout, as in OpenAI's API."""
MAX_FEATURES = 32_768
"""Most numbers that the features of a rollout may have; Milvus stores no longer vectors."""


class Row(NamedTuple):
    """A row of an input: its `values`, or the reason why it could not be read."""

    number: int
    """Line or row number, from 1."""
    values: Mapping[str, Any] | None
    reason: str | None = None
    raw: Any = None
    """The original line, at most 10,000 characters, or row, if `values` is None; for the rejects file."""


@dataclass(frozen=True, slots=True)
class RecordDefaults:
    """Values of the fields that a row leaves out."""

    dataset: str | None = None
    domain: str | None = None
    policy: str | None = None
    run: str | None = None
    reward_column: str | None = None
    """Key of the reward; None uses the one that the row's format defines."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Where a row has the values of these keys of a record, instead of the shape that it has (`records.paths`)."""
    requests: Mapping[str, Any] = field(default_factory=dict)
    """The requests of an OpenAI batch by `custom_id`, for its output."""


@dataclass(frozen=True, slots=True)
class Record:
    """A valid rollout. Strings contain neither NUL nor lone surrogates; blank optional strings are None."""

    query: str
    """The query's text without a rendered chat template."""
    thinking: str
    """The reasoning before the answer; empty if there is none."""
    answer: str
    """The answer as written; empty if none could be read."""
    key: str | None
    """The source's own key of the query."""
    dataset: str
    split: str | None
    """The source's split of the query: `train`, `test`, ..."""
    domain: Domain | None
    """None if the row gives none; `memstore.text.infer_domain` then decides."""
    gold: str | None
    policy: str
    run: str | None
    step: int | None
    sample_index: int | None
    reward: float | None
    reward_source: RewardSource | None
    mean_logprob: float | None
    finish_reason: str | None
    metadata: str | None
    """A JSON object, keys sorted."""
    features: array[float] | None = None
    """Numbers that the policy gives of the rollout, such as a hidden state, as float32 [F]."""


def parse_record(values: Mapping[str, Any], defaults: RecordDefaults) -> Record:
    """Validate a row and convert it to a record.

    Args:
        values: a row with memstore's keys, or a row of a verl rollout dump or of TRL completions.
        defaults: values of the fields that the row leaves out.

    Raises:
        RecordError: the row is not a valid rollout; the message gives the reason in one sentence.
    """
    values = _without_missing(adapt_row(values, defaults.reward_column))
    query = values.get("query")
    if query is None:
        raise RecordError("query is missing")
    if not isinstance(query, str):
        raise RecordError(f"query must be text, not {_kind(query)}")
    if not query.strip():
        raise RecordError("query is empty")
    _check_text("query", query)
    query = readable_query(query)
    gold = _label(values, "gold")
    domain = _domain(values, defaults)
    thinking, answer = _thinking_and_answer(values, query, gold, domain)
    reward = _reward(values.get("reward"))
    sample_index = _integer(values, "sample_index")
    if sample_index is not None and sample_index < 0:
        raise RecordError(f"sample_index is {sample_index}; it must not be negative")
    return Record(
        query=query,
        thinking=thinking,
        answer=answer,
        key=_label(values, "query_id"),
        dataset=_label(values, "dataset") or defaults.dataset or "default",
        split=split_name(_label(values, "split")),
        domain=domain,
        gold=gold,
        policy=_label(values, "policy") or defaults.policy or "unknown",
        run=_label(values, "run") or defaults.run,
        step=_integer(values, "step"),
        sample_index=sample_index,
        reward=reward,
        reward_source=_reward_source(values.get("reward_source"), reward),
        mean_logprob=_measure(values, "mean_logprob"),
        finish_reason=_label(values, "finish_reason"),
        metadata=_metadata(values),
        features=_features(values.get("features")),
    )


def _without_missing(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace values that tables write for a missing one (NaN, NaT) by None."""
    missing = [key for key, value in values.items() if key in RECORD_KEYS and is_nan(value)]
    return {**values, **dict.fromkeys(missing)} if missing else values


def _thinking_and_answer(
    values: Mapping[str, Any], query: str, gold: str | None, domain: Domain | None
) -> tuple[str, str]:
    """Thinking and answer of a row. The response is split if the row does not give the answer."""
    thinking = _text(values, "thinking") or ""
    response = _text(values, "response")
    if values.get("answer") is None and response is not None:
        split = split_response(response, domain or infer_domain(query, gold))
        thinking = (
            f"{thinking}\n\n{split.thinking}" if thinking.strip() and split.thinking else thinking or split.thinking
        )
        answer = split.answer
    elif "answer" in values and (values["answer"] is not None or thinking.strip()):
        answer = _label(values, "answer") or ""
    else:
        raise RecordError(f"answer and response are both missing; the row has the keys {key_list(values)}")
    return thinking if thinking.strip() else "", answer if answer.strip() else ""


def _text(values: Mapping[str, Any], name: str) -> str | None:
    """A text, unchanged; None if it is absent."""
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RecordError(f"{name} must be text, not {_kind(value)}")
    _check_text(name, value)
    return value


def split_name(split: str | None) -> str | None:
    """A split as it is stored: case and blanks of `audit` do not count, so that no audit query stays unmarked."""
    return AUDIT_SPLIT if split is not None and split.strip().lower() == AUDIT_SPLIT else split


def _label(values: Mapping[str, Any], name: str) -> str | None:
    """A text, or a number as text; None if it is absent or blank."""
    value = values.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        value = _as_text(name, value)
    if not value or value.isspace():
        return None
    _check_text(name, value)
    return value


def _as_text(name: str, value: object) -> str:
    if not isinstance(value, bool | int | float | Decimal):
        raise RecordError(f"{name} must be text or a number, not {_kind(value)}")
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        raise RecordError(f"{name} is {value}, which is neither text nor a number")
    try:
        return str(value)
    except ValueError as error:
        raise RecordError(f"{name} is an integer with too many digits; write it as text") from error


def _check_text(name: str, value: str) -> None:
    if value.isascii():
        if "\0" in value:
            raise RecordError(f"{name} contains a NUL character; remove it")
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RecordError(f"{name} contains a lone surrogate at character {error.start + 1}; remove it") from error
    if "\0" in value:
        raise RecordError(f"{name} contains a NUL character; remove it")


def _domain(values: Mapping[str, Any], defaults: RecordDefaults) -> Domain | None:
    given = values.get("domain") or defaults.domain
    if given is None:
        return None
    for domain in DOMAINS:
        if given == domain:
            return domain
    raise RecordError(f"domain is {_quoted(given)}; it must be one of {', '.join(DOMAINS)}")


def _reward(value: object) -> float | None:
    if value is None:
        return None
    reward = _number("reward", value)
    if not 0.0 <= reward <= 1.0:
        raise RecordError(
            f"reward is {_quoted(value)}; it must lie between 0 and 1; rescale it, or choose another column with "
            "--reward-column NAME"
        )
    return reward or 0.0


def _reward_source(value: object, reward: float | None) -> RewardSource | None:
    if value is None or value == "":
        return None if reward is None else "ground_truth"
    for source in _REWARD_SOURCES:
        if value == source:
            if reward is None:
                raise RecordError(f"reward_source is {_quoted(value)} but there is no reward; give both or neither")
            return source
    allowed = " or ".join(_REWARD_SOURCES)
    raise RecordError(f"reward_source is {_quoted(value)}; it must be {allowed}; leave out predicted rewards")


def _measure(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    number = _number(name, value)
    if not math.isfinite(number):
        raise RecordError(f"{name} is {_quoted(value)}; it must be a finite number or null")
    return number


def _number(name: str, value: object) -> float:
    """A number, also as text."""
    if isinstance(value, bool | int | float | Decimal | str) and not (isinstance(value, str) and "_" in value):
        try:
            return float(value)
        except OverflowError:
            return math.inf
        except ValueError:
            pass
    raise RecordError(f"{name} is {_quoted(value)}, which is not a number")


def _integer(values: Mapping[str, Any], name: str) -> int | None:
    """An integer, also as 3.0 or as text."""
    value = values.get(name)
    if value is None:
        return None
    number: int | None = None
    whole = isinstance(value, float) and value.is_integer()
    if whole or (isinstance(value, str) and _INTEGER.fullmatch(value.strip())):
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    if number is None:
        raise RecordError(f"{name} is {_quoted(value)}; it must be an integer")
    if number not in _INT64:
        raise RecordError(f"{name} is {_quoted(value)}; it must fit into 64 bits")
    return number


def _features(value: object) -> array[float] | None:
    """A list of numbers; None if it is absent."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise RecordError(f"features must be a list of numbers, not {_kind(value)}; rename the key or leave it out")
    if not 0 < len(value) <= MAX_FEATURES:
        raise RecordError(f"features has {len(value)} numbers; it must have between 1 and {MAX_FEATURES}")
    try:
        features = array("f", value)
    except (TypeError, OverflowError) as error:
        raise RecordError("features must be a list of numbers; one of its values is none") from error
    if not all(map(math.isfinite, features)):
        raise RecordError("features has a value that is not a finite number of 32 bits")
    return features


def _metadata(values: Mapping[str, Any]) -> str | None:
    """The given metadata and the values under unknown keys, as a JSON object."""
    given = values.get("metadata")
    if given is None and values.keys() <= RECORD_KEYS and "response" not in values:
        return None
    extra = {key: value for key, value in values.items() if key not in RECORD_KEYS and value is not None}
    if values.get("answer") is not None and values.get("response") is not None:
        extra["response"] = values["response"]
    if isinstance(given, str):
        given = _object_in(given)
    if isinstance(given, Mapping):
        clash = not extra.keys().isdisjoint(given)
        extra = {**extra, "metadata": given} if clash else {**given, **extra}
    elif given is not None:
        extra["metadata"] = given
    return _json(extra) if extra else None


def _object_in(text: str) -> object:
    """The JSON object in a text, as in the metadata column of a table; otherwise the text itself."""
    if not text.strip():
        return None
    try:
        value = json.loads(text) if text.lstrip().startswith("{") else text
    except (ValueError, RecursionError):
        return text
    return value


def _json(value: Mapping[str, Any]) -> str:
    try:
        try:
            text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str, allow_nan=False)
        except ValueError:
            text = json.dumps(_finite(value), ensure_ascii=False, sort_keys=True, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RecordError(f"metadata cannot be written as JSON: {error}") from error
    _check_text("metadata", text)
    return text


def _finite(value: object) -> object:
    """Replace NaN and infinities, which JSON lacks, by their names."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _quoted(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} that cannot be shown"
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"


def _kind(value: object) -> str:
    names = {str: "text", dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), type(value).__name__)
