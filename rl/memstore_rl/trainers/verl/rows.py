"""Converts a verl row to a `RewardQuery`.

`memstore verl data` writes the rows; verl's data set and agent loop add to them:

    raw_prompt                    chat messages; the query is the last user message
    data_source                   the dataset
    reward_model.ground_truth     the gold answer; blank: the query is not labelled
    extra_info                    split, index, key and domain
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from memstore.errors import InputError
from memstore.types import Domain
from memstore_rl.rewards.reward import RewardQuery

_DOMAINS = get_args(Domain)
TRAINING_SPLIT = "train"


def query_of(
    raw_prompt: Sequence[Mapping[str, Any]] | None,
    data_source: str,
    reward_model: Mapping[str, Any],
    extra_info: Mapping[str, Any],
) -> RewardQuery:
    """Return the query of a row, with its gold answer if it has one.

    Raises:
        InputError: the row has no user message.
    """
    text = _last_user_message(raw_prompt or ())
    if not text.strip():
        index = extra_info.get("index")
        row = f"a row of {data_source}" if index is None else f"the row {index} of {data_source}"
        raise InputError(f"{row} has no user message in its prompt; write the data with `memstore verl data`")
    domain = extra_info.get("domain")
    return RewardQuery(
        text=text,
        dataset=data_source,
        key=_text(extra_info.get("key")),
        domain=domain if domain in _DOMAINS else None,
        gold=_text(reward_model.get("ground_truth")),
    )


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


def _last_user_message(messages: Sequence[Mapping[str, Any]]) -> str:
    texts = [message["content"] for message in messages if message.get("role") == "user"]
    return texts[-1] if texts and isinstance(texts[-1], str) else ""


def _text(value: object) -> str | None:
    text = "" if value is None else str(value)
    return text if text.strip() else None
