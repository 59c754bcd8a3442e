"""The tables hold what was measured: averages over datasets, shares of the oracle, and gaps where nothing is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from memstore.errors import InputError
from memstore_rl.reproduction.plan import read_plan
from memstore_rl.reproduction.results import Results, results_of
from memstore_rl.reproduction.sources import sources_of
from memstore_rl.reproduction.state import open_folder
from memstore_rl.reproduction.tables import markdown, read_made_of, write_tables
from tests.rl.reproduction.conftest import PLAN, WritePlan

RUNS = '"oracle", "budget-20", "memory-20", "memory-50"'
ABLATION = '[[training.ablations]]\nname = "plain"\nof = "memory-20"\nlabelled_share = "none"\n\n[checkpoints]'
OTHER = [{"query": f"Is {n} odd?", "gold": "yes", "dataset": "parity", "split": "test"} for n in range(4)]


def graded(**values: float) -> dict[str, Any]:
    """A document of `memstore grade`, with intervals of .1 on each side."""
    lines = [
        {"dataset": name, "samples": 40, "unjudged": 0}
        | {"figures": {"accuracy": {"value": value, "low": value - 0.1, "high": value + 0.1, "queries": 40}}}
        for name, value in values.items()
    ]
    return {"policies": [{"lines": lines}]}


@pytest.fixture
def results(write_plan: WritePlan, tmp_path: Path) -> Results:
    """Results of a plan of which the memory run with 50 % is missing."""
    text = PLAN.replace('"oracle", "budget-20", "memory-20"', RUNS).replace("[checkpoints]", ABLATION)
    text = text.replace('in_domain = ["sums.jsonl"]', 'in_domain = ["sums.jsonl", "parity.jsonl"]')
    (tmp_path / "parity.jsonl").write_text("".join(json.dumps(row) + "\n" for row in OTHER))
    file = read_plan(write_plan(text))
    folder = tmp_path / "run"
    compared = {"first": 0.7, "second": 0.75, "difference": -0.05, "low": -0.15, "high": 0.02, "p": 0.21}
    documents: dict[str, Any] = {
        "start/grade": graded(sums=0.3, parity=0.5),
        "oracle/grade": graded(sums=0.8, parity=0.8),
        "budget-20/grade": graded(sums=0.5, parity=0.7),
        "memory-20/grade": graded(sums=0.7, parity=0.8),
        "plain/grade": graded(sums=0.6, parity=0.8),
        "plain/compare": {
            "comparison": [
                {"mean": None, "figures": {}},
                {"mean": "weighted", "figures": {"accuracy": compared}},
            ]
        },
        "predictors-20": [
            {"predictor": "votes", "budget": 0.2, "auc": auc, "advantage_soft": advantage}
            for auc, advantage in ((0.8, 0.5), (0.9, None))
        ],
    }  # fmt: skip
    for name, document in documents.items():
        path = folder / "stub" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
    (folder / "stub" / "memory-50").mkdir()
    (folder / "stub" / "memory-50" / "grade.json").write_text('{"poli')  # of a step that was killed
    return results_of(file.plan, sources_of(file), folder, frozenset(f"stub/{name}" for name in documents))


def test_average_and_its_interval(results: Results) -> None:
    found = results.of("stub")[0].average(["sums", "parity"])
    assert found is not None
    assert (found.value, found.samples) == (pytest.approx(0.4), 80)
    # Two independent means with the same interval: half the width over the square root of two.
    assert (found.low, found.high) == (pytest.approx(0.4 - 0.1 / 2**0.5), pytest.approx(0.4 + 0.1 / 2**0.5))
    assert results.of("stub")[0].average(["sums", "absent"]) is None


def test_tables_show_shares_of_the_oracle_and_gaps(results: Results) -> None:
    lines = markdown(results).splitlines()
    assert "| policy | run | sums | parity | average | of oracle |" in lines
    assert "| stub | start | 30.0 | 50.0 | 40.0 [32.9, 47.1] | 50.0 % |" in lines
    assert "| stub | memory-20 | 70.0 | 80.0 | 75.0 [67.9, 82.1] | 93.8 % |" in lines
    assert "| stub | memory-50 | – | – | – | – |" in lines
    assert "| stub | budget | 60.0 (75.0 %) |  |" in lines
    assert "| stub | memory | 75.0 (93.8 %) | – (–) |" in lines
    assert "| stub | plain | memory-20 | 70.0 | 75.0 | -5.0 | -15.0 to 2.0 | 0.21 |" in lines
    assert "| stub | votes | 0.850 / 0.500 |" in lines
    assert not any("Out of domain" in line or line.startswith("| stub | plain | 6") for line in lines)


def test_plots_and_tables_are_written_and_known_to_be_made(results: Results, tmp_path: Path) -> None:
    with open_folder(tmp_path / "made") as folder:
        assert write_tables(results, folder, "digest") == []
    for name in ("accuracy.svg", "label_budgets.svg", "predictors.svg"):
        assert f"({name})" in (tmp_path / "made" / "tables.md").read_text()
        assert (tmp_path / "made" / name).read_text().rstrip().endswith("</svg>")
    assert read_made_of(tmp_path / "made") == "digest"
    (tmp_path / "made" / "tables.md").unlink()
    assert read_made_of(tmp_path / "made") is None


def test_damaged_results_are_one_sentence(write_plan: WritePlan, tmp_path: Path) -> None:
    file = read_plan(write_plan())
    (tmp_path / "run" / "stub" / "start").mkdir(parents=True)
    (tmp_path / "run" / "stub" / "start" / "grade.json").write_text("{")
    with pytest.raises(InputError, match="cannot read the results in .*grade.json .*do its step again with --redo"):
        results_of(file.plan, sources_of(file), tmp_path / "run", frozenset(["stub/start/grade"]))
