"""A plan is read whole, or refused with a sentence that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore_rl.reproduction.plan import read_plan
from memstore_rl.reproduction.sources import sources_of
from memstore_rl.reproduction.steps import steps_of
from tests.rl.reproduction.conftest import PLAN, WritePlan

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "reproduce"


def test_runs_have_mode_and_budget(write_plan: WritePlan) -> None:
    ablation = '[[training.ablations]]\nname = "plain"\nof = "memory-20"\nlabelled_share = "none"\n[checkpoints]'
    plan = read_plan(write_plan(PLAN, ("[checkpoints]", ablation))).plan
    runs = [(run.name, run.mode, run.budget, run.ablation_of) for run in plan.training.all_runs()]
    assert runs == [
        ("oracle", "oracle", None, None),
        ("budget-20", "budget", 0.2, None),
        ("memory-20", "memory", 0.2, None),
        ("plain", "memory", 0.2, "memory-20"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("samples = 2", "sampels = 2", "the key rollouts.sampels is unknown; did you mean samples?"),
        ("[rollouts]", "[rolouts]", "the key rolouts is unknown; did you mean rollouts?"),
        ('model = "stub"\n', "", "the key policies.0.model is missing"),
        ("samples = 2", "samples = 0", "rollouts.samples is 0: "),
        ("samples = 2", 'samples = "many"', "rollouts.samples is 'many': "),
        ('"budget-20"', '"budget"', "training.runs has the run 'budget'; use oracle, verdict, or budget- or memory-"),
        ('"budget-20"', '"oracle"', "training.runs names a run twice"),
        ('"budget-20"', '"verdict"', "training has the run verdict, which needs verifier_calls"),
        ("{checkpoint}", "{chekpoint}", "training.command has the placeholder {chekpoint}; use {plan}, "),
        ("{checkpoint}", "{overrides}", "training.command uses {overrides}, which needs training.verl"),
        ("[training]", '[training]\nverl = "0.9.1"', "training.verl needs a recipe for each policy, and stub has none"),
        ('name = "stub"', 'name = "a/b"', "policies.0.name must consist of letters"),
        ('name = "stub"', 'name = "steps"', "policies.0.name is steps, which names something else in the folder"),
        ("[rollouts]", "vllm = true\n[rollouts]", "policies.0 needs either an endpoint or vllm = true"),
        ("127.0.0.1:9/v1\"\n\n[roll", "127.0.0.1:{port}/v1\"\n\n[roll", "policies.0 has {port} in its endpoint"),
        ("[training]", '[training]\nverl = "0.4"', "a training.verl that does not fit: memstore does not "),
        ("[queries]", "[queries", "is not TOML"),
    ],
)  # fmt: skip
def test_invalid_plan_is_one_sentence(write_plan: WritePlan, old: str, new: str, said: str) -> None:
    path = write_plan(PLAN, (old, new))
    with pytest.raises(InputError) as raised:
        read_plan(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_missing_plan_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file .*absent.toml; check its name"):
        read_plan(tmp_path / "absent.toml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sums.jsonl", "absent.jsonl", "no file .*absent.jsonl; check its name"),
        ("sums.jsonl", "gsm9k", "did you mean gsm8k"),
        ('["sums.jsonl"]', '["sums.jsonl"]\nsystem = "Add."', "queries.system is for benchmarks and declarations"),
        ('["sums.jsonl"]', '["sums.jsonl"]\nlimit = 3', "queries.limit is for benchmarks and declarations"),
        (
            "[rollouts]",
            'api_key_file = "absent"\n[rollouts]',
            "api_key_file of the plan is absent, and .* does not exist",
        ),
    ],
)
def test_missing_file_is_found_before_any_step(write_plan: WritePlan, old: str, new: str, said: str) -> None:
    file = read_plan(write_plan(PLAN, (old, new)))
    with pytest.raises(InputError, match=said):
        steps_of(file, sources_of(file), file.folder / "run")


def test_file_of_queries_needs_splits(write_plan: WritePlan) -> None:
    file = read_plan(write_plan())
    rows = (file.folder / "sums.jsonl").read_text().replace(', "split": "test"', "")
    (file.folder / "sums.jsonl").write_text(rows)
    with pytest.raises(InputError, match="has the query 'What is 20 plus 23 \\?' without a split"):
        sources_of(file)


@pytest.mark.parametrize("name", ["paper.toml", "small.toml"])
def test_plans_of_the_examples_are_valid(name: str, tmp_path: Path) -> None:
    file = read_plan(EXAMPLES / name)
    assert steps_of(file, sources_of(file), tmp_path)
