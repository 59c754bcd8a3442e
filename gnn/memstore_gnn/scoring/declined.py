"""Recognise groups whose rollouts all decline to answer.

All rollouts of such a group agree, so a model that learned from agreement would predict that they are right. But no
rollout gave an answer, and the agreement is no evidence. The rollouts get the mean of the labels instead.
"""

from __future__ import annotations

import re

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.features.outline import answer_texts

_DECLINING = re.compile(
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
"""A longer text, in characters, counts as an answer."""


def declines(text: str) -> bool:
    """Whether a text says only that there is no answer."""
    if len(text) > _LONGEST:
        return False
    return _DECLINING.fullmatch(" ".join(text.split()).strip(" .!?*_\"'")) is not None


def in_declining_group(snapshot: Snapshot, group: IntVector) -> BoolVector:
    """Whether every rollout of a rollout's group declines to answer, bool [T].

    Args:
        snapshot: with texts.
        group: int64 [T], group of each rollout.
    """
    texts = zip(answer_texts(snapshot).to_pylist(), snapshot.thinkings["text"].to_pylist(), strict=True)
    declined = np.array([declines(answer or thinking or "") for answer, thinking in texts], np.bool_)
    _, cell = np.unique(group, return_inverse=True)
    return (np.bincount(cell, declined) == np.bincount(cell))[cell] if len(cell) else declined


def mean_label(labels: FloatVector) -> float:
    """Mean of the labels (float64 [T], NaN without one); 0.5 if there is none."""
    known = labels[np.isfinite(labels)]
    return float(known.mean()) if len(known) else 0.5
