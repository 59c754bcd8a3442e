"""Mode verdict in verl: settings, overrides, checks, the extra information, and verl's own reward loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, Reward, RewardQuery, Rollout
from memstore_rl.rewards.verifier_budget import VerifierBudget
from memstore_rl.trainers.verl.check import check
from memstore_rl.trainers.verl.config import VerlTarget, overrides_for
from memstore_rl.trainers.verl.reply import EXTRA_KEYS, reply
from memstore_rl.trainers.verl.settings import parse_settings

GROUP = 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "verdict", "verifier_calls": 4}, "memstore.mode=verdict needs memstore.memory or memstore.endpoint"),
        ({"mode": "verdict", "memory": "m"}, "mode verdict needs a budget of verifier calls; set verifier_calls"),
        ({"mode": "verdict", "memory": "m", "verifier_calls": 0}, "verifier_calls is 0, and a budget without calls"),
        ({"mode": "verdict", "memory": "m", "verifier_total": -1}, "verifier_total is -1"),
        (
            {"mode": "verdict", "endpoint": "http://e", "verifier_calls": 4},
            "memstore.verifier_calls cannot be combined",
        ),
    ],
)
def test_invalid_settings_are_one_sentence(values: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse_settings(values)
    assert "\n" not in str(error.value)


def test_settings_make_the_budget() -> None:
    given = {"mode": "verdict", "memory": "m", "verifier_calls": 4, "verifier_wait": 0.0}
    assert parse_settings(given).verifier_budget == VerifierBudget(4, None, 0.0)
    assert parse_settings({"mode": "verdict", "endpoint": "http://e"}).verifier_budget is None


def test_overrides_have_the_budget() -> None:
    found = overrides_for(VerlTarget("0.9.1", mode="verdict", memory="m", verifier_calls=4, verifier_total=100))
    expected = {
        "+memstore.mode=verdict",
        "+memstore.verifier_calls=4",
        "+memstore.verifier_total=100",
        "algorithm.norm_adv_by_std_in_grpo=False",
    }
    assert expected <= set(found.overrides)
    with_service = overrides_for(VerlTarget("0.9.1", mode="verdict", endpoint="http://127.0.0.1:8731"))
    assert not [line for line in with_service.overrides if "verifier" in line]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"mode": "verdict"}, "mode verdict needs a memory or a service"),
        ({"mode": "verdict", "memory": "m"}, "add --verifier-calls or --verifier-total"),
        ({"mode": "verdict", "memory": "m", "verifier_calls": 0}, "verifier_calls is 0"),
        ({"mode": "verdict", "endpoint": "http://e", "verifier_calls": 1}, "pass it to `memstore serve` instead"),
        ({"mode": "memory", "memory": "m", "verifier_calls": 1}, "is for mode verdict, but the mode is memory"),
    ],
)
def test_invalid_targets_are_one_sentence(target: Mapping[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        overrides_for(VerlTarget("0.9.1", **target))


def test_the_check_names_the_budget_and_finds_data_without_golds(
    verl_rows: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()):
        pass
    table = pq.read_table(verl_rows / "train_oracle.parquet")
    rows = [row | {"reward_model": {"style": "rule", "ground_truth": ""}} for row in table.to_pylist()]
    pq.write_table(type(table).from_pylist(rows, table.schema), tmp_path / "unlabelled.parquet")
    found = {}
    for train in (verl_rows / "train_oracle.parquet", tmp_path / "unlabelled.parquet"):
        target = VerlTarget(
            "0.9.1",
            mode="verdict",
            memory=str(tmp_path / "memory"),
            verifier_calls=4,
            train=str(train),
            validation=str(verl_rows / "validation.parquet"),
        )
        overrides = [*overrides_for(target).overrides, f"actor_rollout_ref.model.path={tiny_policy}"]
        found[train.name] = {finding.what: finding for finding in check(overrides)}
    labelled, unlabelled = found["train_oracle.parquet"], found["unlabelled.parquet"]
    assert "mode verdict" in labelled["settings"].says
    assert "verifier calls: 4 a step" in labelled["settings"].says
    assert labelled["training data"].ok
    assert not unlabelled["training data"].ok
    assert "so mode verdict cannot buy a verdict" in unlabelled["training data"].says


def test_extra_information_counts_each_pair_once() -> None:
    query = RewardQuery("what is 1 + 1 ?", domain="math", gold="2")
    group = Group(query, [Rollout(answer=answer, step=1) for answer in ("7", "7", "2", "2", "5")])
    with GroupScorer(None, mode="verdict", verifier_budget=VerifierBudget(calls=1)) as scorer:
        extras = [reply(reward) for reward in scorer.score_groups([group])[0]]
    assert {tuple(extra) for extra in extras} == {EXTRA_KEYS}
    assert [extra["verdict_call"] for extra in extras] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert [extra["verdict_wrong"] for extra in extras] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert [extra["verdict_open"] for extra in extras] == [0.0, 0.0, 1.0, 0.0, 1.0]
    from memstore_rl.trainers.verl.sampler import shares

    sums = {name: value for name, value in shares(extras).items() if "verdict" in name}
    assert sums == {
        "memstore/verdict_calls": 1.0,
        "memstore/verdict_right": 0.0,
        "memstore/verdict_wrong": 1.0,
        "memstore/verdict_remembered": 0.0,
        "memstore/verdict_open": 2.0,
    }
    other_mode = reply(scored_by_oracle(group))
    assert not [name for name in shares([other_mode]) if "verdict" in name]


def scored_by_oracle(group: Group) -> Reward:
    with GroupScorer.open(mode="oracle") as scorer:
        return scorer.score_groups([group])[0][0]


@pytest.fixture(scope="module")
def empty_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A memory without any rollout and model."""
    folder = tmp_path_factory.mktemp("verdicts") / "memory"
    with Memory.open(folder, create=True):
        pass
    return folder


@pytest.fixture(scope="module")
def reward_loop(ray_cluster: None, verl_config: Callable[..., Any], empty_memory: Path) -> Iterator[Any]:
    """verl's reward loop with two workers and our manager, in mode verdict with two calls a step."""
    import ray
    from verl.experimental.reward_loop import RewardLoopManager

    overrides = [
        "reward.reward_manager.source=importlib",
        "reward.reward_manager.module.path=pkg://memstore_rl.trainers.verl.manager",
        "reward.reward_manager.name=GroupRewardManager",
        f"actor_rollout_ref.rollout.n={GROUP}",
        f"+memstore.memory={empty_memory}",
        "+memstore.mode=verdict",
        "+memstore.verifier_calls=2",
    ]
    loop = RewardLoopManager(verl_config(*overrides))
    yield loop
    for worker in loop.reward_loop_workers:
        ray.kill(worker)


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_groups_of_a_step_share_the_budget_in_verl(
    score_group_in_verl: Callable[..., list[dict[str, Any]]], reward_loop: Any
) -> None:
    first = score_group_in_verl(reward_loop, "a", [6, 6, 6, 5], 1)
    assert [extra["source"] for extra in first] == ["ground_truth"] * 4
    assert [extra["score"] for extra in first] == [0.0, 0.0, 0.0, 1.0]
    assert sum(float(extra["verdict_call"]) for extra in first) == 2
    second = score_group_in_verl(reward_loop, "b", [6, 6, 6, 5], 1)
    assert {extra["source"] for extra in second} == {"predicted"}
    third = score_group_in_verl(reward_loop, "a-again", [5, 5, 6, 8], 2)
    assert [extra["score"] for extra in third] == [1.0, 1.0, 0.0, 0.0]
    assert sum(float(extra["verdict_call"]) for extra in third) == 0
    assert sum(float(extra["verdict_remembered"]) for extra in third) == 3
