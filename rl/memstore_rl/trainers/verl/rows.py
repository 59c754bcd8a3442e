"""Converts a verl row to a `RewardQuery`.

`memstore verl data` writes the rows; verl's data set and agent loop add to them:

    raw_prompt                    chat messages; the query is their text, as an ingest of the same row reads it
    data_source                   the dataset
    reward_model.ground_truth     the gold answer; blank or missing (None, NaN): the query is not labelled
    extra_info                    split, index, key, domain, and whether verdicts of the memory may be used (remember)

A row with the split `audit` and a gold answer is of an audit query: the gauge of the scorer judges its groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from memstore.errors import InputError
from memstore.records.adapters import gold_text
from memstore.text.chat import read_prompt
from memstore.types import AUDIT_SPLIT, Domain
from memstore_rl.rewards.reward import RewardQuery

_DOMAINS = get_args(Domain)
TRAINING_SPLIT = "train"


def query_of(
    raw_prompt: object,
    data_source: str,
    reward_model: Mapping[str, Any],
    extra_info: Mapping[str, Any],
) -> RewardQuery:
    """Return the query of a row, with its gold answer if it has one.

    Args:
        raw_prompt: a list of messages, or a text.

    Raises:
        InputError: the row has no user message.
    """
    prompt = read_prompt(raw_prompt)
    if prompt is None or not prompt.query.strip():
        index = extra_info.get("index")
        row = f"a row of {data_source}" if index is None else f"the row {index} of {data_source}"
        raise InputError(f"{row} has no user message with text in its prompt; write the data with `memstore verl data`")
    domain = extra_info.get("domain")
    gold = _text(gold_text(reward_model.get("ground_truth")))
    return RewardQuery(
        text=prompt.query,
        dataset=data_source,
        key=_text(extra_info.get("key")),
        domain=domain if domain in _DOMAINS else None,
        gold=gold,
        remember=_may_remember(extra_info),
        audit=gold is not None and extra_info.get("split") == AUDIT_SPLIT,
    )


def _may_remember(extra_info: Mapping[str, Any]) -> bool:
    """Whether the row allows verdicts of the memory.

    Data files written before the memory remembered say only whether a row is labelled. Their unlabelled rows may be
    those of a label budget, so nothing is remembered for them.
    """
    remember = extra_info.get("remember")
    return bool(extra_info.get("labelled", True) if remember is None else remember)


def is_training(extra_info: Mapping[str, Any]) -> bool:
    """Whether this is a training row; verl uses one reward manager for training and validation.

    Raises:
        InputError: the row has no split.
    """
    split = extra_info.get("split")
    if not split:
        raise InputError(
            "a row has no extra_info.split, so validation rows could be scored by the reward model; "
            "write the data with `memstore verl data`"
        )
    return str(split) == TRAINING_SPLIT


def _text(value: object) -> str | None:
    text = "" if value is None else str(value)
    return text if text.strip() else None
