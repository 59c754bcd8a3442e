"""What only the hook of ART does: conversations, exceptions, metadata, and its own rewards."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.trainers.art import score_group
from memstore_rl.trainers.conformance.drivers.art import RecordedGroup, RecordedTrajectory
from memstore_rl.trainers.conformance.service import NotingService


def says(text: str) -> Any:
    return SimpleNamespace(message=SimpleNamespace(role="assistant", content=text))


def trajectory(*messages: Any, **fields: Any) -> RecordedTrajectory:
    asked = [{"role": "system", "content": "Think."}, {"role": "user", "content": "what is 2 + 3 ?"}]
    return RecordedTrajectory([*asked, *messages], **fields)


def test_copy_has_the_rewards_and_the_group_stays(service: NotingService) -> None:
    group = RecordedGroup([trajectory(says("\\boxed{5}"), reward=0.3)], metadata={"gold": "5", "dataset": "sums"})
    scored = asyncio.run(score_group(group, step=4))
    [one] = scored.trajectories
    assert (one.reward, one.metrics["independent_reward"], one.metrics["memstore/ground_truth_share"]) == (
        1.0,
        0.3,
        1.0,
    )
    assert (group.trajectories[0].reward, group.trajectories[0].metrics) == (0.3, {})
    [noted] = service.noted
    assert (noted.group.query.text, noted.group.query.dataset, noted.record) == ("what is 2 + 3 ?", "sums", True)
    assert noted.group.rollouts[0].step == 4


def test_completion_is_what_the_policy_wrote(service: NotingService) -> None:
    tool = {"role": "tool", "content": "99"}
    group = RecordedGroup([trajectory(says("I call a tool."), tool, says("It is 5."), initial_policy_version=9)])
    asyncio.run(score_group(group))
    [rollout] = service.noted[0].group.rollouts
    assert (rollout.response, rollout.step) == ("I call a tool.\nIt is 5.", 9)


def test_rollouts_that_raised_make_a_group_short(service: NotingService) -> None:
    group = RecordedGroup([trajectory(says("5")), trajectory(says("6"))], exceptions=["it failed"])
    scored = asyncio.run(score_group(group))
    assert service.noted[0].group.expected == 3
    assert scored.trajectories[0].metrics["memstore/short_share"] == 1.0


def test_evaluation_is_told_by_the_split_or_by_the_caller(service: NotingService) -> None:
    labelled = {"gold": "5"}
    asyncio.run(score_group(RecordedGroup([trajectory(says("5"), metadata={**labelled, "split": "test"})])))
    asyncio.run(score_group(RecordedGroup([trajectory(says("5"))], metadata=labelled), evaluation=True))
    assert [(one.record, one.group.mode) for one in service.noted] == [(False, "oracle")] * 2


def test_what_cannot_be_scored_is_refused(service: NotingService) -> None:
    with pytest.raises(InputError, match="a trajectory has additional histories"):
        asyncio.run(score_group(RecordedGroup([trajectory(says("5"), additional_histories=["another"])])))
    with pytest.raises(InputError, match="no rollout of a group ended without an exception"):
        asyncio.run(score_group(RecordedGroup([], exceptions=["it failed"])))
    assert service.noted == []
