"""The commands of the steps are those of memstore's command line, in an order in which each has what it needs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from memstore_cli.main import app
from memstore_rl.reproduction import dry_run, read_plan, script
from memstore_rl.reproduction.sources import sources_of
from memstore_rl.reproduction.step import Step, fingerprints
from memstore_rl.reproduction.steps import steps_of
from tests.rl.reproduction.conftest import PLAN, WritePlan

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "reproduce"
_PART = re.compile(r" && | >> | > ")


def steps(plan: Path, folder: Path) -> list[Step]:
    file = read_plan(plan)
    return steps_of(file, sources_of(file), folder)


def named(found: list[Step]) -> dict[str, Step]:
    return {step.name: step for step in found}


def parse(words: list[str]) -> None:
    """Parse a command line of memstore as the command does."""
    verb = typer.main.get_command(app)
    context = typer.Context(verb, info_name="memstore")
    while hasattr(verb, "commands"):
        verb = verb.commands[words.pop(0)]
    verb.make_context("memstore", words, parent=context)


@pytest.mark.parametrize("name", ["paper.toml", "small.toml"])
def test_commands_parse_and_each_step_follows_what_it_needs(name: str, tmp_path: Path) -> None:
    before = set[str]()
    parsed = 0
    for step in steps(EXAMPLES / name, tmp_path):
        assert before.issuperset(step.needs), step.name
        assert step.name not in before
        before.add(step.name)
        for part in _PART.split(step.command):
            words = shlex.split(part)
            if words[0] == "memstore":
                parse(words[1:])
                parsed += 1
    assert parsed > 15


def test_a_training_uses_the_data_and_the_reward_model_of_its_budget(tmp_path: Path) -> None:
    found = named(steps(EXAMPLES / "paper.toml", tmp_path))
    recipe = found["qwen2.5-1.5b/memory-30/recipe"]
    assert '--memory "$PWD"/qwen2.5-1.5b/memory --model "$(cat qwen2.5-1.5b/reward-model-30.id)"' in recipe.command
    assert '--train "$PWD"/data/memory-30/train_memory_30.parquet' in recipe.command
    assert (
        "trainer.experiment_name=qwen2.5-1.5b-memory-30 trainer.total_epochs=3 +memstore.run_code=True"
        in recipe.command
    )
    assert recipe.needs == ("qwen2.5-1.5b/reward-model-30",)
    assert "--memory" not in found["qwen2.5-1.5b/oracle/recipe"].command
    assert "data/oracle/train_oracle.parquet" in found["qwen2.5-1.5b/oracle/recipe"].command
    assert (
        "data/memory-20-labelled-none/train_memory_20.parquet" in found["qwen2.5-1.5b/no-labelled-half/recipe"].command
    )
    assert found["qwen2.5-1.5b/probability/recipe"].command.count("+memstore.shaping=probability") == 1
    assert found["data/memory-20-labelled-none"].command.count("--labelled-share none") == 1
    assert "--batch-size" not in found["data/memory-20-labelled-none"].command


def test_where_a_server_is_changes_no_fingerprint_and_what_is_asked_does(write_plan: WritePlan, tmp_path: Path) -> None:
    marks = fingerprints(steps(write_plan(), tmp_path))
    other = fingerprints(
        steps(write_plan(PLAN, (":9/v1", ":10/v1"), ("[rollouts]", "concurrency = 2\n[rollouts]")), tmp_path)
    )
    assert marks == other
    more = fingerprints(steps(write_plan(PLAN, ("samples = 2", "samples = 4")), tmp_path))
    own = ["rollouts", "memory", "reward-model-20", "score"]
    own += [f"predictors-{percent}" for percent in (20, 30, 40, 50, 60, 70)]
    own += [f"memory-20/{step}" for step in ("training", "test", "grade")]
    assert {name for name in marks if marks[name] != more[name]} == {f"stub/{name}" for name in own}


def test_more_runs_and_budgets_change_nothing_that_is_there(write_plan: WritePlan, tmp_path: Path) -> None:
    marks = fingerprints(steps(write_plan(), tmp_path))
    more = fingerprints(steps(write_plan(PLAN, ('"memory-20"', '"memory-20", "memory-30", "budget-30"')), tmp_path))
    assert marks.items() <= more.items()
    added = {name.removeprefix("stub/") for name in more.keys() - marks.keys()}
    measured = {f"{run}/{step}" for run in ("memory-30", "budget-30") for step in ("training", "test", "grade")}
    assert added == {*measured, "data/memory-30", "data/budget-30", "reward-model-30"}


def test_verdicts_are_bought_with_the_data_of_the_oracle(tmp_path: Path) -> None:
    text = (EXAMPLES / "paper.toml").read_text().replace("../verl_qwen", str(EXAMPLES.parent / "verl_qwen"))
    text = text.replace('runs = ["oracle", ', 'verifier_calls = 25\nruns = ["verdict", "oracle", ')
    (tmp_path / "plan.toml").write_text(text)
    command = named(steps(tmp_path / "plan.toml", tmp_path))["qwen2.5-3b/verdict/recipe"].command
    assert '--mode verdict --memory "$PWD"/qwen2.5-3b/memory --model "$(cat qwen2.5-3b/reward-model-20.id)"' in command
    assert "data/oracle/train_oracle.parquet" in command
    assert "--verifier-calls 25" in command


def test_another_file_of_queries_changes_the_fingerprint(write_plan: WritePlan, tmp_path: Path) -> None:
    plan = write_plan()
    marks = fingerprints(steps(plan, tmp_path))
    (plan.parent / "sums.jsonl").write_text((plan.parent / "sums.jsonl").read_text().replace("plus", "and"))
    assert fingerprints(steps(plan, tmp_path))["stub/rollouts"] != marks["stub/rollouts"]


def test_dry_run_counts_the_queries_and_writes_nothing(write_plan: WritePlan, tmp_path: Path) -> None:
    prices = "[assumptions]\nprompt_tokens = 1000\ncompletion_tokens = 500\nprices = [1.0, 2.0]\n[checkpoints]"
    document = dry_run(read_plan(write_plan(PLAN, ("[checkpoints]", prices))), tmp_path / "run")
    by_name = {step["name"]: step["estimate"] for step in document["steps"]}
    assert by_name["stub/rollouts"]["calls"] == 10 * 2
    assert by_name["stub/rollouts"]["prompt_tokens"] == 10 * 1000
    assert by_name["stub/rollouts"]["completion_tokens"] == 20 * 500
    assert by_name["stub/start/test"]["calls"] == 4
    assert document["total"]["calls"] == 20 + 4 * 4
    assert document["price"] == pytest.approx((10_000 + 4 * 4_000 + 2 * 36 * 500) / 1e6)
    # Two passes over ten queries for oracle and memory, and over a fifth of them: groups of 8, three epochs.
    hours = by_name["stub/memory-20/training"]["gpu_hours"]
    assert hours == pytest.approx(10 * 8 * 3 * 1500 / 1500 / 3600)
    assert by_name["stub/budget-20/training"]["gpu_hours"] == pytest.approx(hours / 5)
    assert not (tmp_path / "run").exists()
    text = script(document)
    assert "memstore rollout " in text
    assert "estimates, not measurements: 10 training and 4 test queries, 1,000 tokens a prompt" in text
