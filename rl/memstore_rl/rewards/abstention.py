"""Recognizes answers that decline to answer.

A group that declines as one agrees perfectly, and a model that learned from agreement would be almost sure of it. Its
agreement is no evidence: nobody gave an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from memstore.records.record import Record

_ABSTENTION = re.compile(
    r"""
    (?: (?:i['’]?m\ sorry|i\ am\ sorry|sorry|unfortunately) [,.:;]?\ (?:but\ )? )?
    (?: i\ (?:really\ |simply\ |honestly\ )? (?:do\ not|don['’]?t) \ (?:know|have\ (?:an|the)\ answer)
      | i\ (?:can\ ?not|can['’]?t|could\ not|am\ unable\ to|['’]?m\ unable\ to) \ (?:answer|solve|determine|say|tell)
      | i['’]?m\ (?:not\ sure|unsure|unable\ to\ (?:answer|solve|determine)) | i\ am\ (?:not\ sure|unsure)
      | i\ have\ no\ (?:idea|answer) | no\ (?:idea|answer) | unknown | unsure | not\ sure | n/?a
      | idk | dunno | no\ comment | i\ give\ up | ["'] ?i ?don['’]?t\ know ["']?
    )
    (?: \ (?:the\ answer|it|this|that|how|the\ (?:solution|question|problem)|this\ (?:question|problem)) )?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LONGEST = 120
"""Longest text that can be a bare abstention, in characters."""


def abstains(text: str) -> bool:
    """Whether a text says only that there is no answer."""
    if len(text) > _LONGEST:
        return False
    return _ABSTENTION.fullmatch(" ".join(text.split()).strip(" .!?*_\"'")) is not None


def all_abstain(records: Sequence[Record]) -> bool:
    """Whether every rollout of a group declines to answer."""
    return all(abstains(record.answer or record.thinking) for record in records)
