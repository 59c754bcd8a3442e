"""Where the reward of a sample comes from, said of each sample.

    rewards     the row has gold                  it has a reward and no gold    neither
    (not told)  the verifier's verdict            the file's reward              not judged
    verifier    the verifier's verdict            not judged                     not judged
    file        the file's reward, or not judged where it has none

A sample that its verifier cannot judge stays without a reward, whatever the file says of it: one figure is not made of
two kinds of truth unnoticed. A sample without a reward has a reason instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, get_args

from memstore.records.record import Record
from memstore.types import Domain
from memstore_rl.verifiers import Attempt, Verifiers

RewardsFrom: TypeAlias = Literal["file", "verifier"]
REWARDS_FROM: tuple[RewardsFrom, ...] = get_args(RewardsFrom)


class Graded(NamedTuple):
    """What one sample is worth."""

    reward: float | None
    """0..1; None: not judged."""
    source: RewardsFrom | None
    """Who said so; None without a reward."""
    reason: str | None
    """Why there is no reward, as one sentence; None with one."""


def judge(
    records: Sequence[Record], domains: Sequence[Domain], verifiers: Verifiers, rewards: RewardsFrom | None = None
) -> list[Graded]:
    """What each record is worth, in their order.

    Args:
        domains: of the records, in the same order.
        rewards: whose word counts; None: see the module.
    """
    graded = [_by_file(record, rewards) for record in records]
    places = [place for place, record in enumerate(records) if rewards != "file" and record.gold is not None]
    attempts = [_attempt(records[place]) for place in places]
    verdicts = verifiers.check_all([domains[place] for place in places], attempts)
    for place, verdict in zip(places, verdicts, strict=True):
        source: RewardsFrom | None = None if verdict.reward is None else "verifier"
        graded[place] = Graded(verdict.reward, source, verdict.reason)
    return graded


def _attempt(record: Record) -> Attempt:
    assert record.gold is not None
    return Attempt(record.query, record.gold, record.answer)


def _by_file(record: Record, rewards: RewardsFrom | None) -> Graded:
    """The file's word, where it counts."""
    if rewards == "verifier":
        return Graded(None, None, "its row has no gold")
    if record.reward is not None:
        return Graded(record.reward, "file", None)
    return Graded(None, None, "its row has no reward" if rewards == "file" else "its row has neither gold nor reward")
