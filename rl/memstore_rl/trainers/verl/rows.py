"""A verl row as `RewardQuery` and `Rollout`.

The row is what `memstore verl data` writes, after verl's dataset and agent loop have added to it:

    raw_prompt                    chat messages; the query is what the user said last
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
    """The query of a row; the gold answer goes with it exactly where the row has one.

    Raises:
        InputError: the row has no text of a query.
    """
    text = _last_word(raw_prompt or ())
    if not text.strip():
        index = extra_info.get("index")
        row = f"a row of {data_source}" if index is None else f"the row {index} of {data_source}"
        raise InputError(f"{row} has no text of a user in its prompt; write the data with `memstore verl data`")
    domain = extra_info.get("domain")
    return RewardQuery(
        text=text,
        dataset=data_source,
        key=_text(extra_info.get("key")),
        domain=domain if domain in _DOMAINS else None,
        gold=_text(reward_model.get("ground_truth")),
    )


def is_training(extra_info: Mapping[str, Any]) -> bool:
    """Is this a row to train on? verl calls one reward manager for training and validation alike, and says not which.

    Raises:
        InputError: the row does not say.
    """
    split = extra_info.get("split")
    if not split:
        raise InputError(
            "a row has no extra_info.split, so that validation rows could be scored by the reward model; "
            "write the data with `memstore verl data`"
        )
    return str(split) == TRAINING_SPLIT


def _last_word(messages: Sequence[Mapping[str, Any]]) -> str:
    said = [message["content"] for message in messages if message.get("role") == "user"]
    return said[-1] if said and isinstance(said[-1], str) else ""


def _text(value: object) -> str | None:
    text = "" if value is None else str(value)
    return text if text.strip() else None
