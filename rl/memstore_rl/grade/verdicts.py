"""Decide the reward of each sample: a verifier's verdict, or the reward in the file.

    rewards     row with gold                     row with a reward, no gold     neither
    None        the verifier's verdict            the file's reward              not judged
    verifier    the verifier's verdict            not judged                     not judged
    file        the file's reward, if it has one; else not judged

A sample that its verifier cannot judge gets no reward, even if the file has one, so that a metric does not silently mix
two sources. A sample without a reward has a reason instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from memstore.records.record import Record
from memstore.types import Domain
from memstore_rl.verifiers import Attempt, Verifiers

RewardSource: TypeAlias = Literal["file", "verifier"]


class GradedReward(NamedTuple):
    """The reward of one sample."""

    reward: float | None
    """0..1; None: not judged."""
    source: RewardSource | None
    """None: not judged."""
    reason: str | None
    """Why it was not judged, as one sentence; None with a reward."""


def judge(
    records: Sequence[Record], domains: Sequence[Domain], verifiers: Verifiers, rewards: RewardSource | None = None
) -> list[GradedReward]:
    """The reward of each record, in order.

    Args:
        domains: domain of each record.
        rewards: the only source to use; None: see the module.
    """
    graded = [_from_file(record, rewards) for record in records]
    with_gold = [index for index, record in enumerate(records) if rewards != "file" and record.gold is not None]
    attempts = [_attempt(records[index]) for index in with_gold]
    verdicts = verifiers.check_all([domains[index] for index in with_gold], attempts)
    for index, verdict in zip(with_gold, verdicts, strict=True):
        source: RewardSource | None = None if verdict.reward is None else "verifier"
        graded[index] = GradedReward(verdict.reward, source, verdict.reason)
    return graded


def _attempt(record: Record) -> Attempt:
    assert record.gold is not None
    return Attempt(record.query, record.gold, record.answer)


def _from_file(record: Record, rewards: RewardSource | None) -> GradedReward:
    """The reward in the file, if that source is allowed."""
    if rewards == "verifier":
        return GradedReward(None, None, "the row has no gold")
    if record.reward is not None:
        return GradedReward(record.reward, "file", None)
    missing = "no reward" if rewards == "file" else "neither gold nor reward"
    return GradedReward(None, None, f"the row has {missing}")
