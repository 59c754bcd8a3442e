"""`memstore verl config` and `check`: verl accepts the printed overrides, and ignored ones are found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore_cli.main import run
from memstore_rl.trainers.verl.check import check
from memstore_rl.trainers.verl.config import VerlTarget, overrides_for, parse_version, workers_needed

SERVICE = "http://127.0.0.1:8731"
RECIPE = (
    "actor_rollout_ref.rollout.name=vllm",
    "actor_rollout_ref.actor.use_dynamic_bsz=True",
    "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=True",
    "actor_rollout_ref.actor.ppo_mini_batch_size=4",
    "trainer.n_gpus_per_node=1",
)


@pytest.fixture(scope="module")
def empty_memory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checked") / "memory"
    Memory.open(folder, create=True).close()
    return folder


@pytest.fixture
def overrides(verl_rows: Path, tiny_policy: Path, empty_memory: Path) -> list[str]:
    """A complete recipe for verl 0.9.1."""
    made = overrides_for(
        VerlTarget(
            "0.9.1",
            memory=str(empty_memory),
            n=4,
            batch_size=8,
            train=str(verl_rows / "train_memory_50.parquet"),
            validation=str(verl_rows / "validation.parquet"),
        )
    )
    return [*RECIPE, f"actor_rollout_ref.model.path={tiny_policy}", *made.overrides]


def failures(overrides: list[str]) -> dict[str, str]:
    return {finding.what: finding.says for finding in check(overrides) if not finding.ok}


@pytest.mark.parametrize(
    ("version", "design", "support", "expected_line"),
    [
        ("0.9.1", "agent_loop", "tested", "trainer.use_v1=True"),
        ("0.9.0", "agent_loop", "by contract", "trainer.use_v1=True"),
        ("0.8.0", "manager", "by contract", "reward.reward_manager.source=importlib"),
        ("0.7.1", "manager", "by contract", "reward.num_workers=11"),
        ("0.7.0", "batch", "by contract", "reward_model.use_reward_loop=False"),
        ("0.6.1", "batch", "by contract", "actor_rollout_ref.rollout.mode=sync"),
        ("0.5.0", "batch", "by contract", "reward_model.reward_manager=batch"),
    ],
)
def test_design_of_each_version(version: str, design: str, support: str, expected_line: str) -> None:
    made = overrides_for(VerlTarget(version, endpoint=SERVICE, n=8, batch_size=1024, train="t", validation="v"))
    assert (made.design, made.sureness) == (design, support)
    assert expected_line in made.overrides


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (VerlTarget("0.9.1"), "mode memory needs a memory or a service"),
        (VerlTarget("0.9.1", memory="m", endpoint=SERVICE), "use --memory or --endpoint"),
        (VerlTarget("0.9.1", mode="hybrid", memory="m"), "there is no mode 'hybrid'"),  # type: ignore[arg-type]
        (VerlTarget("0.8.0", memory="m"), "pins numpy below 2"),
        (VerlTarget("0.7.1", endpoint=SERVICE), "add --n and --batch-size"),
        (VerlTarget("0.7.1", endpoint=SERVICE, design="agent_loop"), "does not support design agent_loop; use manager"),
        (VerlTarget("0.6.1", endpoint=SERVICE, n=8), "add --n, --train, --validation"),
        (VerlTarget("0.10.0", memory="m"), "memstore does not support verl 0.10.0"),
        (VerlTarget("0.4.1", endpoint=SERVICE), "memstore does not support verl 0.4.1"),
        (VerlTarget("newest", memory="m"), "'newest' is not a version of verl"),
        (VerlTarget("0.9.1", endpoint=SERVICE, model="m1"), "a service has its own reward model"),
        (VerlTarget("0.9.1", memory="m", token_file="t"), "--token-file needs a service"),
    ],
)
def test_unsupported_targets_are_one_sentence(target: VerlTarget, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        overrides_for(target)
    assert "\n" not in str(error.value)


def test_version_suffixes_are_ignored() -> None:
    assert parse_version("v0.9.1.dev0") == (0, 9, 1)
    assert parse_version("0.9") == (0, 9, 0)


def test_workers_needed() -> None:
    assert [workers_needed(rollouts) for rollouts in (1, 800, 801, 8192)] == [1, 1, 2, 11]


@pytest.mark.parametrize("design", ["agent_loop", "manager"])
def test_verl_loads_the_printed_overrides(design: str, verl_rows: Path, tiny_policy: Path) -> None:
    made = overrides_for(
        VerlTarget(
            "0.9.1",
            endpoint=SERVICE,
            n=4,
            batch_size=8,
            train=str(verl_rows / "train_memory_50.parquet"),
            validation=str(verl_rows / "validation.parquet"),
            design=design,  # type: ignore[arg-type]
        )
    )
    found = check([*RECIPE, f"actor_rollout_ref.model.path={tiny_policy}", *made.overrides])
    assert {finding.what: finding.ok for finding in found} == dict.fromkeys([f.what for f in found], True)
    says = {finding.what: finding.says for finding in found}
    assert (
        says["rewards"]
        == {
            "agent_loop": "by the agent loop, inside its workers",
            "manager": "by the reward loop's manager",
        }[design]
    )
    assert says["training data"] == "8 rows, 4 with ground truth"


@pytest.mark.parametrize("version", ["0.9.1", "0.8.0", "0.7.1", "0.6.1"])
def test_training_data_of_mode_memory_is_read_in_order(version: str) -> None:
    target = VerlTarget(version, endpoint=SERVICE, n=8, batch_size=8, train="t", validation="v")
    assert "data.shuffle=False" in overrides_for(target).overrides
    assert "data.shuffle=False" not in overrides_for(replace(target, mode="budget")).overrides


@pytest.mark.parametrize("version", ["0.9.1", "0.8.0", "0.7.1", "0.6.1"])
def test_predicted_rewards_are_not_divided_by_the_deviation(version: str) -> None:
    # docs/rewards.md: the best setting of all that were measured. Ground truth alone keeps verl's default.
    target = VerlTarget(version, endpoint=SERVICE, n=8, batch_size=8, train="t", validation="v")
    line = "algorithm.norm_adv_by_std_in_grpo=False"
    assert line in overrides_for(target).overrides
    assert line not in overrides_for(replace(target, mode="oracle")).overrides


def test_printed_overrides_alone_are_no_recipe(overrides: list[str]) -> None:
    alone = [line for line in overrides if not line.startswith(("actor_rollout_ref.model", *RECIPE))]
    found = check(alone)
    assert [finding.ok for finding in found] == sorted(finding.ok for finding in found)
    assert found[0].what == "recipe"
    assert "add the overrides of your recipe" in found[0].says


def without(overrides: list[str], *starts: str) -> list[str]:
    return [line for line in overrides if not line.startswith(starts)]


def test_ignored_keys_are_found(overrides: list[str]) -> None:
    old = without(overrides, "+actor_rollout_ref.rollout.agent")
    found = failures([*old, "custom_reward_function.path=rewards.py", "reward_model.reward_manager=batch"])
    assert "verl 0.9 silently ignores 'custom_reward_function.path=rewards.py'" in found["old keys"]
    assert "verl would use" in found["rewards"]
    assert "NaiveRewardManager" in found["rewards"]


@pytest.mark.parametrize(
    ("change", "what", "message"),
    [
        ("+memstore.mod=memory", "settings", "memstore.mod is not a setting of memstore"),
        ("++memstore.memory=null", "settings", "memstore.mode=memory needs memstore.memory"),
        ("+memstore.group_wait_s=-1", "settings", "memstore.group_wait_s cannot be -1"),
        ("++memstore.memory=./nowhere", "memory", "there is no memory at nowhere; make one with"),
        ("reward.reward_model.enable=True", "rewards", "set it to False"),
        ("trainer.use_v1=False", "rewards", "verl would use"),
        ("trainer.v1.trainer_mode=colocate_async", "metrics", "custom_sampler.name=AsyncSampler"),
        ("algorithm.filter_groups.enable=True", "metrics", "does nothing with a custom sampler"),
        ("data.train_files=nowhere.parquet", "training data", "nowhere.parquet does not exist"),
        ("++memstore.mode=budget", "training data", "4 of 8 rows of"),
        ("actor_rollout_ref.actor.use_dynamic_bsz=False", "verl", "rejects this configuration"),
    ],
)
def test_problems_are_found_before_training(overrides: list[str], change: str, what: str, message: str) -> None:
    assert message in failures([*overrides, change])[what]


def test_swapped_training_and_validation_data_are_found(overrides: list[str], verl_rows: Path) -> None:
    changed = [*overrides, f"data.train_files={verl_rows}/validation.parquet"]
    assert "is a training file, but its extra_info.split is validation" in failures(changed)["training data"]
    changed = [*overrides, f"data.val_files={verl_rows}/train_oracle.parquet"]
    assert "is a validation file, but its extra_info.split is train" in failures(changed)["validation data"]


def test_class_that_cannot_be_loaded_is_named(overrides: list[str]) -> None:
    wrong = without(overrides, "+actor_rollout_ref.rollout.agent")
    wrong.append("+actor_rollout_ref.rollout.agent.agent_loop_manager_class=memstore_rl.trainers.verl.agent_loop.Grup")
    assert "verl cannot load the agent loop memstore_rl.trainers.verl.agent_loop.Grup" in failures(wrong)["rewards"]


def test_unknown_override_is_one_sentence(overrides: list[str]) -> None:
    with pytest.raises(InputError, match="verl rejects these overrides") as error:
        check([*overrides, "trainer.nodes=3"])
    assert "\n" not in str(error.value)


def test_command_prints_and_checks_overrides(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verl", "config", "--verl", "0.9.1", "--memory", "m", "--n", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "+memstore.memory=m" in lines
    assert all("=" in line for line in lines)
    assert run(["verl", "check", "--json", *overrides]) == 0
    assert all(finding["ok"] for finding in json.loads(capsys.readouterr().out))
    assert run(["verl", "check", *overrides, "reward.reward_model.enable=True"]) == 1
    assert "NOT OK  rewards" in capsys.readouterr().out
