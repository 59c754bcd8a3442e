"""The small plan of the examples runs whole: rollouts of a served policy, memory, trainings, tables."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from memstore_cli.main import run
from memstore_rl.testing.openai_stub import MODEL, Stub, serving
from tests.rl.reproduction.conftest import PLAN, WritePlan

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "reproduce"


@pytest.fixture
def small_plan(tmp_path: Path) -> Path:
    """The small plan with 40 problems, of which 20 are for training, and two runs."""
    plans = tmp_path / "plans"
    shutil.copytree(EXAMPLE, plans)
    for name, questions in (("arithmetic", 40), ("arithmetic_new", 20)):
        path = plans / f"{name}.toml"
        text = path.read_text().replace("../../memstore", str(ROOT / "memstore"))
        path.write_text(re.sub(r"sample = \d+", f"sample = {questions}", text))
    text = (plans / "small.toml").read_text()
    text = text.replace('"oracle", "budget-20", "memory-20", "memory-50"', '"oracle", "memory-50"')
    text = text.replace('name = "probability"\nof = "memory-20"', 'name = "short"\nof = "oracle"')
    text = text.replace('"--shaping=probability"', '"--steps=2"')
    text = text.replace("budgets = [0.2, 0.5]", "budgets = [0.5]").replace('"logistic", "memstore"', '"logistic"')
    (plans / "small.toml").write_text(text)
    return plans / "small.toml"


@pytest.mark.slow
def test_small_plan_from_one_command(small_plan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    command = ["reproduce", "--plan", str(small_plan), "--folder", str(folder)]
    assert run([*command, "--json"]) == 0, capsys.readouterr().err
    document = json.loads(capsys.readouterr().out)
    assert document["complete"]
    assert len(document["done"]) == document["steps"]
    results = json.loads((folder / "results.json").read_text())
    assert (results["in_domain"], results["out_of_domain"]) == (["arithmetic"], ["arithmetic_new"])
    states = {state["run"]: state for state in results["states"]}
    assert list(states) == ["start", "oracle", "memory-50", "short"]
    for state in states.values():
        assert 0 < state["average"]["in_domain"]["value"] <= 1
        assert 0 < state["average"]["out_of_domain"]["value"] <= 1
    assert states["oracle"]["accuracy"]["arithmetic"]["samples"] == 12 * 8
    assert states["short"]["compared"]["second"] is not None
    weights = [
        (folder / "sample" / name / "checkpoint" / "policy.json").read_text() for name in ("oracle", "memory-50")
    ]
    assert weights[0] != weights[1]
    page = (folder / "tables.md").read_text()
    for title in ("In domain", "Out of domain", "Ablations", "Predicted rewards"):
        assert f"## {title}\n" in page
    assert "– |" not in page
    assert (folder / "accuracy.svg").read_text().startswith("<?xml")
    assert run(command) == 0
    assert f"0 steps done now, {document['steps']} before" in capsys.readouterr().out


@pytest.mark.slow
def test_an_endpoint_lost_half_way_resumes_at_another_address(
    write_plan: WritePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memstore_rl.reproduction.run._has_gpu", lambda: False)
    few = "[reward_models]\nbudgets = [0.2]\npredictors = ['vote_share']\n"
    tried = ("[rollouts]", f"tries = 1\nconcurrency = 1\n{few}[rollouts]")

    def reproduce(address: str) -> tuple[int, str]:
        plan = write_plan(PLAN, tried, ("http://127.0.0.1:9/v1", address), ('model = "stub"', f'model = "{MODEL}"'))
        code = run(["reproduce", "--plan", str(plan), "--folder", str(tmp_path / "run")])
        return code, capsys.readouterr().err

    with serving(Stub(down=True)) as address:
        code, said = reproduce(address)
    assert code == 1
    assert said.count("error: the step stub/rollouts failed: ") == 1
    # The memory is needed for all that follows; the test rollouts are not, and the trainings need a GPU.
    with serving(Stub()) as address:
        code, said = reproduce(address)
    assert code == 1
    assert "note: the plan has changed without an effect on what is done: policies.0.endpoint was " in said
    assert "error: the step stub/oracle/training needs a GPU, and this machine has none, and 2 more like it" in said
    page = (tmp_path / "run" / "tables.md").read_text()
    assert "| stub | start | " in page
    assert "| stub | oracle | – | – | – |" in page
    assert len((tmp_path / "run" / "stub" / "rollouts.jsonl").read_text().splitlines()) == 20
