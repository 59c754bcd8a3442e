"""The one record type: a rollout as a row of an input says it, validated once, at the edge.

A reader yields `Row`s (a mapping with its line number); `parse_record` makes a `Record` of one or raises
`RecordError` with the reason that goes to the rejects file. Nothing behind this module sees an unchecked value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from memstore.types import Domain, RewardSource


class Row(NamedTuple):
    """One row of an input as read: `values`, or the reason why the line could not even be read."""

    number: int
    """Line or row number, from 1."""
    values: Mapping[str, Any] | None
    reason: str | None = None
    raw: str | None = None
    """The line as it stood (at most 10,000 characters), for the rejects file, where `values` is None."""


@dataclass(frozen=True, slots=True)
class Record:
    """A valid rollout. Strings hold no NUL and no lone surrogate; blank optional strings are None."""

    query: str
    thinking: str
    """The reasoning before the answer; "" where there is none."""
    answer: str
    """The answer as the rollout wrote it; "" where none could be read."""
    key: str | None
    """The source's own key of the query."""
    dataset: str
    domain: Domain | None
    """None: not said; `memstore.text.domain` decides."""
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
