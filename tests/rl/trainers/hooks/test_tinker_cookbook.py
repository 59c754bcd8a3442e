"""The builders for tinker-cookbook: what they add to an environment group, and what they refuse."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from memstore.errors import InputError
from memstore_rl.rewards.reward import RewardQuery
from memstore_rl.service.client import ServiceGone
from memstore_rl.trainers.conformance.drivers.tinker_cookbook import CharacterRenderer, RecordedTrajectory
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.stopped import TrainingStopped
from memstore_rl.trainers.tinker_cookbook import MemoryDatasetBuilder, PromptGroup, RewardedGroup, RowDataset

QUERY = RewardQuery("what is 2 + 3 ?", domain="math", gold="5")
PROMPT = [{"role": "user", "content": QUERY.text}]


def builder(**changes: Any) -> RewardedGroup:
    own = PromptGroup(PROMPT, CharacterRenderer(), 2)
    return RewardedGroup(own, QUERY, CharacterRenderer(), **{"group_size": 2, **changes})


def trajectory(*turns: str, reward: float = 0.0) -> RecordedTrajectory:
    actions = [SimpleNamespace(tokens=[ord(letter) for letter in text]) for text in turns]
    return RecordedTrajectory([SimpleNamespace(ac=action, reward=reward) for action in actions])


def rewards(group: RewardedGroup, *trajectories: RecordedTrajectory) -> list[tuple[float, dict[str, float]]]:
    return asyncio.run(group.compute_group_rewards(trajectories, []))


def test_rewards_of_steps_are_replaced(service: NotingService) -> None:
    found = rewards(builder(), trajectory("\\boxed{5}", reward=0.75), trajectory("\\boxed{6}", reward=-0.25))
    assert [reward for reward, _ in found] == [0.25, 0.25]  # the sums with the steps are 1 and 0
    assert found[0][1]["memstore/ground_truth_share"] == 1.0


def test_a_response_is_what_the_policy_wrote_in_all_turns(service: NotingService) -> None:
    rewards(builder(step=7), trajectory("2 + 3<|im_end|>", "\\boxed{5}<|im_end|>"), trajectory("", reward=1.0))
    [one] = service.noted
    assert [(rollout.response, rollout.step) for rollout in one.group.rollouts] == [("2 + 3\n\\boxed{5}", 7), ("", 7)]


def test_a_builder_from_another_process_is_the_same(service: NotingService) -> None:
    group = pickle.loads(pickle.dumps(builder(evaluation=True, tags=("sums",))))
    assert group == builder(evaluation=True, tags=("sums",))
    assert group.logging_tags() == ["sums"]
    assert len(asyncio.run(group.make_envs())) == 2
    rewards(group, trajectory("\\boxed{5}"))
    assert [(one.record, one.group.mode) for one in service.noted] == [(False, "oracle")]


def test_a_service_that_fits_no_division_fits(service: NotingService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "info", lambda: {"shaping": "residual"})
    assert [reward for reward, _ in rewards(builder(), trajectory("\\boxed{5}"))] == [1.0]


def test_a_failure_passes_except_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSTORE_REWARD_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("MEMSTORE_REWARD_DEADLINE_S", "0.1")
    with pytest.raises(
        SystemExit, match="the training stops, because rollouts cannot be scored: the reward"
    ) as stopped:
        rewards(builder(), trajectory("\\boxed{5}"))
    assert not isinstance(stopped.value, Exception)
    assert isinstance(stopped.value.__cause__, ServiceGone)
    assert isinstance(pickle.loads(pickle.dumps(stopped.value)), TrainingStopped)


def row(number: int, split: str | None = "train") -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": f"what is {number} + 1 ?"}],
        "data_source": "sums",
        "reward_model": {"style": "rule", "ground_truth": str(number + 1)},
        "extra_info": {"split": split, "domain": "math", "index": number},
    }


def test_a_batch_is_its_rows_as_groups() -> None:
    data = RowDataset([row(number) for number in range(5)], CharacterRenderer(), batch_size=2, group_size=8)
    assert len(data) == 3
    assert [group.query.text for group in data.get_batch(2)] == ["what is 4 + 1 ?"]
    first = data.get_batch(1)[0]
    assert (first.query.gold, first.group_size, first.step, first.evaluation) == ("3", 8, 1, False)
    assert first.logging_tags() == ["sums"]


def test_the_split_says_what_is_an_evaluation() -> None:
    rows: Sequence[dict[str, Any]] = [row(1, "validation"), row(2, None)]
    data = RowDataset(rows, CharacterRenderer(), batch_size=1, group_size=8)
    assert data.get_batch(0)[0].evaluation
    with pytest.raises(InputError, match=r"a row has no extra_info\.split"):
        data.get_batch(1)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "empty.parquet")
    builder = MemoryDatasetBuilder(str(tmp_path / "empty.parquet"), None, "model", "role_colon", 1, 1)
    with pytest.raises(InputError, match=r"empty\.parquet has no rows"):
        asyncio.run(builder())
