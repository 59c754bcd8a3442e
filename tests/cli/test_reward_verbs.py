"""`memstore train`, `models`, `score` and `evaluate` on a small memory of sums."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

QUERIES, ROLLOUTS, UNLABELLED = 40, 4, 8
LINE = {"query_id", "policy", "run", "step", "sample_index", "probability", "reward", "source", "model"} | {
    "judged_by",
    "judged_at",
}


@pytest.fixture(scope="module")
def trained(memory: Path, tmp_path_factory: pytest.TempPathFactory, process: Callable[..., Any]) -> tuple[Path, Any]:
    """A copy of the memory with one model, trained on half of the labelled queries, and the output of `train`."""
    folder = Path(shutil.copytree(memory, tmp_path_factory.mktemp("trained") / "memory"))
    done = process("train", "--budget", "0.5", "--epochs", "5", "--memory", folder, "--json")
    assert done.code == 0, done.err
    return folder, done


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_train_prints_the_documented_keys(trained: tuple[Path, Any]) -> None:
    document = trained[1].document
    assert {"model", "snapshot", "queries", "metrics", "seconds"} <= set(document)
    labelled = QUERIES - UNLABELLED
    assert document["queries"]["train"] + document["queries"]["select"] == labelled // 2
    assert document["queries"]["report"] == labelled // 2
    assert {"auc", "accuracy", "ece", "brier", "datasets"} <= set(document["metrics"])
    assert 0 <= document["metrics"]["auc"] <= 1
    assert trained[1].err == ""


def test_the_model_is_listed(trained: tuple[Path, Any], command: Callable[..., Any]) -> None:
    (entry,) = command("models", "--memory", trained[0], "--json").document
    assert entry["model"] == trained[1].document["model"]
    assert entry["metrics"] == trained[1].document["metrics"]
    assert (trained[0] / entry["path"]).is_dir()
    assert entry["model"] in command("models", "--memory", trained[0]).out


def test_a_memory_without_models_names_the_train_command(memory: Path, command: Callable[..., Any]) -> None:
    assert command("models", "--memory", memory, "--json").document == []
    assert "memstore train" in command("models", "--memory", memory).out


def test_score_covers_the_rollouts_that_the_model_did_not_see(
    trained: tuple[Path, Any], tmp_path: Path, command: Callable[..., Any]
) -> None:
    folder, training = trained
    done = command("score", "--memory", folder, "--output", tmp_path / "scores.jsonl", "--json").document
    seen = training.document["queries"]["train"] + training.document["queries"]["select"]
    assert {
        "scored",
        "model",
        "seconds",
        "output",
        "drift",
        "band",
        "abstained",
        "alone",
        "remembered",
        "contradictions",
        "warnings",
    } == set(done)
    assert done["scored"] == (QUERIES - seen) * ROLLOUTS
    scored = lines(tmp_path / "scores.jsonl")
    assert len(scored) == done["scored"]
    assert all(set(line) == LINE and line["source"] == "predicted" for line in scored)
    assert all(0 <= line["probability"] <= 1 and line["model"] == done["model"] for line in scored)
    assert {f"sum-{number}" for number in range(QUERIES - UNLABELLED, QUERIES)} <= {line["query_id"] for line in scored}
    assert command("stats", "--memory", folder, "--json").document["predicted_thinkings"] == done["scored"]
    assert command("score", "--memory", folder).code == 0
    assert command("stats", "--memory", folder, "--json").document["predicted_thinkings"] == done["scored"]


def test_score_of_a_file_adds_nothing(trained: tuple[Path, Any], tmp_path: Path, command: Callable[..., Any]) -> None:
    folder, _ = trained
    before = command("stats", "--memory", folder, "--json").document
    rows = [
        {"query": "Tom has 7 pears and picks 9 more. How many pears has he?", "dataset": "sums", "policy": "small"}
        | {"run": "second", "thinking": f"Try {n}: 7 + 9 = {answer}.", "answer": answer, "sample_index": n}
        for n, answer in enumerate(("16", "16", "17"))
    ]
    file = tmp_path / "new.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = command("score", file, "--memory", folder, "--output", tmp_path / "scores.jsonl", "--json")
    assert (done.code, done.document["scored"]) == (0, 3), done.err
    by_sample = {line["sample_index"]: line for line in lines(tmp_path / "scores.jsonl")}
    assert math.isclose(by_sample[0]["probability"], by_sample[1]["probability"])
    assert by_sample[0]["probability"] > by_sample[2]["probability"]
    assert command("stats", "--memory", folder, "--json").document == before


def test_score_rejects_an_unknown_model(trained: tuple[Path, Any], command: Callable[..., Any]) -> None:
    done = command("score", "--model", "m-none", "--memory", trained[0])
    assert (done.code, done.out) == (1, "")
    assert trained[1].document["model"] in done.err


def test_evaluate_prints_a_row_per_predictor_and_seed(memory: Path, command: Callable[..., Any]) -> None:
    words = ("--budget", 0.5, "--seed", 0, "--seed", 1, "--predictor", "vote_share", "--predictor", "logistic")
    rows = command("evaluate", *words, "--memory", memory, "--json").document
    assert [(row["predictor"], row["seed"]) for row in rows] == [
        ("vote_share", 0),
        ("logistic", 0),
        ("vote_share", 1),
        ("logistic", 1),
    ]
    keys = {"dataset", "predictor", "budget", "seed", "queries", "rollouts", "auc", "accuracy", "pair_accuracy"}
    assert keys | {"advantage_hard", "advantage_soft", "ece", "brier", "aurc"} == set(rows[0])
    shown = command("evaluate", *words, "--memory", memory).out
    assert "vote_share" in shown
    assert sum(line.split()[0] == "±" for line in shown.splitlines()) == 2
    assert sum("vote_share" in line for line in shown.splitlines()) == 1


def test_evaluate_writes_plots(memory: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    done = command("evaluate", "--predictor", "vote_share", "--plots", tmp_path / "plots", "--memory", memory)
    names = ["budgets.svg", "calibration.svg", "risk_coverage.svg", "curves.json"]
    assert [Path(line).name for line in done.out.splitlines()[-4:]] == names
    assert all((tmp_path / "plots" / name).stat().st_size > 0 for name in names)


def test_evaluate_keeps_its_figures_beside_the_model(trained: tuple[Path, Any], command: Callable[..., Any]) -> None:
    done = command("evaluate", "--predictor", "constant", "--memory", trained[0])
    assert done.err == ""
    folder = trained[0] / "models" / trained[1].document["model"]
    kept = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert [row["predictor"] for row in kept["comparisons"][0]["rows"]] == ["constant"]
    (folder / "evaluation.json").write_text("{", encoding="utf-8")
    done = command("evaluate", "--predictor", "constant", "--memory", trained[0])
    assert (done.code, done.out) == (1, "")
    assert "delete it" in done.err
