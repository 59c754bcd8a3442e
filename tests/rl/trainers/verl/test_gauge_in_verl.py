"""The gauge in verl: settings, the values of withheld groups, the extra information and the metrics."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_gnn.monitoring.residual_gap import GroupGap
from memstore_rl.rewards.gauge import Gauge
from memstore_rl.rewards.gauge_window import ScoredGroup
from memstore_rl.rewards.reward import Reward, RewardQuery
from memstore_rl.trainers.unscored import Unscored, complete_rewards
from memstore_rl.trainers.verl.reply import EXTRA_KEYS, GAUGE_KEYS, reply
from memstore_rl.trainers.verl.rows import query_of
from memstore_rl.trainers.verl.settings import hook_settings, parse_settings

WITHHELD = Reward(None, "unscored", None, 4, False, None, True, 0.0, "stopped", withheld=True)


@pytest.mark.parametrize("estimator", ["grpo", "rloo", "reinforce_plus_plus_baseline"])
def test_predictions_are_stopped_where_the_advantage_is_relative_to_the_group(
    verl_config: Callable[..., Any], estimator: str
) -> None:
    config = verl_config("+memstore.memory=m", f"algorithm.adv_estimator={estimator}")
    settings = hook_settings(config)
    assert (settings.when_harmful, settings.group_relative) == ("stop", True)


def test_elsewhere_the_gauge_warns(verl_config: Callable[..., Any]) -> None:
    settings = hook_settings(verl_config("+memstore.memory=m", "algorithm.adv_estimator=gae"))
    assert (settings.when_harmful, settings.group_relative) == ("warn", False)
    with pytest.raises(InputError, match=r"when_harmful=stop needs an advantage that is relative to the group"):
        hook_settings(verl_config("+memstore.memory=m", "algorithm.adv_estimator=gae", "+memstore.when_harmful=stop"))


def test_a_service_has_its_own_gauge() -> None:
    with pytest.raises(InputError, match="memstore.gauge_share cannot be combined with memstore.endpoint"):
        parse_settings({"endpoint": "http://e", "gauge_share": 0.5})


@pytest.mark.parametrize("unscored", ["fail", "mean"])
def test_withheld_group_has_one_value(unscored: Any) -> None:
    filled = complete_rewards([WITHHELD] * 4, unscored)
    assert [(reward.value, reward.source) for reward in filled] == [(0.0, "unscored")] * 4
    known = replace(WITHHELD, value=1.0, source="remembered", withheld=False)
    assert [reward.value for reward in complete_rewards([known, WITHHELD], unscored)] == [1.0, 1.0]


def test_withheld_group_ends_a_training_whose_advantage_is_not_relative() -> None:
    with pytest.raises(Unscored, match="start the service with --when-harmful warn, or train in mode budget"):
        complete_rewards([WITHHELD] * 4, "mean", group_relative=False)
    with pytest.raises(Unscored, match="have no reward"):
        complete_rewards([replace(WITHHELD, withheld=False)] * 4, "fail")


def test_extra_information_has_the_gauge() -> None:
    gauge = Gauge()
    start = gauge.start([("r", 0)])
    judged = [ScoredGroup(f"q{n}", start.steps[0], ["1"], [WITHHELD], GroupGap(0.1, True, 1.0)) for n in range(3)]
    gauge.observe(judged)
    extra = reply(replace(WITHHELD, value=0.0), gauge.reading())
    assert tuple(extra) == EXTRA_KEYS
    assert (extra["withheld"], extra["gauge_gap"], extra["gauge_gap_groups"]) == (1.0, pytest.approx(0.1), 3.0)
    blank = reply(replace(WITHHELD, value=0.0))
    assert all(math.isnan(float(blank[f"gauge_{name}"])) for name in GAUGE_KEYS)
    from memstore_rl.trainers.verl.sampler import shares

    metrics = shares([blank, extra])
    assert metrics["memstore/gauge_gap"] == pytest.approx(0.1)
    assert metrics["memstore/withheld_share"] == 1.0
    assert not [name for name in shares([blank]) if "gauge" in name]


def test_row_of_the_audit_file_is_of_an_audit_query() -> None:
    def query(split: str, gold: str | None) -> RewardQuery:
        return query_of([{"role": "user", "content": "1 + 1 ?"}], "sums", {"ground_truth": gold}, {"split": split})

    assert query("audit", "2").audit
    assert not query("train", "2").audit
    assert not query("audit", "").audit


@pytest.fixture(scope="module")
def reward_loop(
    ray_cluster: None, verl_config: Callable[..., Any], trained_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """verl's reward loop with our manager, whose line and gauge follow after each batch of two groups.

    Its actor owns a copy of the memory: other tests of this process may have the memory open.
    """
    import ray
    from verl.experimental.reward_loop import RewardLoopManager

    memory = shutil.copytree(trained_folder, tmp_path_factory.mktemp("gauge-in-verl") / "memory")
    overrides = [
        "reward.reward_manager.source=importlib",
        "reward.reward_manager.module.path=pkg://memstore_rl.trainers.verl.manager",
        "reward.reward_manager.name=GroupRewardManager",
        "actor_rollout_ref.rollout.n=4",
        "data.train_batch_size=2",
        f"+memstore.memory={memory}",
    ]
    loop = RewardLoopManager(verl_config(*overrides))
    yield loop
    for worker in loop.reward_loop_workers:
        ray.kill(worker)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_gauge_of_the_batch_before_is_in_the_rewards_of_verl(
    score_group_in_verl: Callable[..., list[dict[str, Any]]], reward_loop: Any
) -> None:
    def send(uid: str, step: int) -> list[dict[str, Any]]:
        return score_group_in_verl(reward_loop, uid, [6, 6, 6, 5], step)

    first = [*send("a", 1), *send("b", 1)]
    assert all(math.isnan(float(extra["gauge_gap"])) for extra in first)
    second = send("c", 2)
    for extra in second:
        assert (extra["gauge_gap_groups"], extra["gauge_stopped"], extra["withheld"]) == (2.0, 0.0, 0.0)
        assert not math.isnan(float(extra["gauge_gap"]))
