"""Reward models of an open memory: versions, visible labels and score files."""

from __future__ import annotations

import datetime as dt
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from memstore.errors import InputError, ModelError
from memstore.memory import Memory
from memstore.snapshots.aliases import ids_of_schema_1
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.evaluation.compare import ON_REQUEST, PREDICTORS, evaluate_memory, predictor_named
from memstore_gnn.evaluation.evaluate import EvaluationRow
from memstore_gnn.models.checkpoint import load_origin, save_model
from memstore_gnn.models.origin import digests
from memstore_gnn.models.registry import list_models, model_folder
from memstore_gnn.scoring.abstain import Mode
from memstore_gnn.verbs import (
    Abstention,
    TrainSummary,
    bands_of_model,
    open_model,
    overall,
    score_file,
    score_memory_rollouts,
    train_memory,
    visible_to,
)

QUERIES, ROLLOUTS = 12, 3


def rollouts(queries: int = QUERIES, first: int = 0, **other: Any) -> list[dict[str, Any]]:
    """Sums; one rollout of every other query is wrong."""
    rows = []
    for number in range(first, first + queries):
        for sample in range(ROLLOUTS):
            wrong = sample == 0 and number % 2 == 0
            answer = str(number + 7 + wrong)
            row = {"query": f"{number} + 7?", "dataset": "sums", "domain": "math", "policy": "p", "run": "r"}
            row |= {"thinking": f"try {sample}: {answer}", "answer": answer, "sample_index": sample}
            rows.append(row | {"reward": float(not wrong)} | other)
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Memory, TrainSummary, TrainSummary]]:
    """A half-labelled memory with two models: of half of its labels, and then of all."""
    folder = tmp_path_factory.mktemp("trained")
    rows = rollouts() + rollouts(QUERIES, QUERIES, reward=None)
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([write(folder / "rows.jsonl", rows)])
        half = train_memory(memory, budget=0.5, epochs=2, device="cpu")
        yield memory, half, train_memory(memory, epochs=2, device="cpu")


def test_models_have_versions_and_the_newest_is_used(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    memory, half, whole = trained
    assert [(entry.model, entry.version) for entry in list_models(memory)] == [(whole.model, 2), (half.model, 1)]
    assert open_model(memory).card.id == whole.model
    assert open_model(memory, half.model, "cpu").card.id == half.model
    with pytest.raises(ModelError, match="has no reward model 'm-none'; it has "):
        open_model(memory, "m-none")


def test_training_again_gives_the_same_model(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    memory, half, _ = trained
    assert train_memory(memory, budget=0.5, epochs=2, device="cpu").model == half.model
    assert len(list_models(memory)) == 2


def test_budget_hides_labels_from_scoring(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    memory, half, whole = trained
    snapshot = memory.snapshot()
    assert np.isfinite(visible_to(open_model(memory, half.model), snapshot)).sum() == QUERIES // 2 * ROLLOUTS
    assert np.isfinite(visible_to(open_model(memory, whole.model), snapshot)).sum() == QUERIES * ROLLOUTS
    assert score_memory_rollouts(memory, model=half.model).scored == (QUERIES // 2 + QUERIES) * ROLLOUTS
    assert score_memory_rollouts(memory).scored == QUERIES * ROLLOUTS
    assert {entry.version: entry.scored for entry in list_models(memory)} == {1: 54, 2: 36}


def test_file_is_scored_in_order_and_not_added(
    trained: tuple[Memory, TrainSummary, TrainSummary], tmp_path: Path
) -> None:
    memory, _, whole = trained
    before = memory.stats()
    rows = [row | {"query_id": f"k{number}"} for number, row in enumerate(rollouts(2, 100))]
    known = rollouts(1)
    file, output = write(tmp_path / "new.jsonl", rows[::-1] + known), tmp_path / "scores.jsonl"
    assert score_file(memory, file, output=output).scored == 9
    sources = [json.loads(line)["source"] for line in output.read_text().splitlines()]
    assert (sources.count("predicted"), sources.count("remembered")) == (6, len(known))
    summary = score_file(memory, file, as_ingested=True, output=output)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert summary.scored == len(lines) == 9
    assert [line["query_id"] for line in lines[:6]] == [f"k{number}" for number in range(6)]
    assert all(line["query_id"].startswith("q-") for line in lines[6:])
    assert [line["sample_index"] for line in lines[6:]] == [0, 1, 2]
    assert [(line["source"], line["reward"]) for line in lines[6:]] == [
        ("ground_truth", 0.0),
        ("ground_truth", 1.0),
        ("ground_truth", 1.0),
    ]
    assert all(line["reward"] == line["probability"] and line["source"] == "predicted" for line in lines[:6])
    assert {line["model"] for line in lines} == {whole.model}
    assert memory.stats() == before


def test_output_path_is_checked_before_scoring(
    trained: tuple[Memory, TrainSummary, TrainSummary], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="the folder .* does not exist"):
        score_memory_rollouts(trained[0], output=tmp_path / "none" / "scores.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        score_memory_rollouts(trained[0], output=tmp_path)


def row(rollouts: int, auc: float) -> EvaluationRow:
    return EvaluationRow("d", "memstore", 0.2, 0, 1, rollouts, auc, 0.5, 0.5, 0.5, 0.5, 0.1, 0.2, 0.3)


def test_metrics_of_several_data_sets_are_weighted_by_rollouts() -> None:
    figures = overall([row(10, 0.9), row(30, 0.5), row(7, float("nan"))])
    assert figures["auc"] is not None
    assert math.isclose(figures["auc"], 0.6)
    assert overall([row(7, float("nan"))])["auc"] is None
    assert overall([])["brier"] is None


def test_model_of_the_old_embedder_raises_after_reembedding(tmp_path: Path) -> None:
    """The one-line error names the model, both embedders and the command; a new model then scores."""
    old, new = HashEmbedder(), HashEmbedder(dimension=16)
    with Memory.open(tmp_path / "memory", create=True, embedder=old) as memory:
        memory.ingest([write(tmp_path / "rows.jsonl", rollouts() + rollouts(2, QUERIES, reward=None))])
        model = train_memory(memory, epochs=2, device="cpu").model
        assert score_memory_rollouts(memory).scored == 2 * ROLLOUTS
        memory.reembed(new)
        for which in (None, model):
            with pytest.raises(ModelError) as refused:
                score_memory_rollouts(memory, model=which)
            message = str(refused.value)
            assert model in message
            assert repr(str(old.fingerprint)) in message
            assert repr(str(new.fingerprint)) in message
            assert message.endswith("train a model on this memory with `memstore train`")
            assert "\n" not in message
        again = train_memory(memory, epochs=2, device="cpu")
        assert again.model != model
        assert score_memory_rollouts(memory).scored == 2 * ROLLOUTS


def test_every_predictor_can_be_selected_by_name(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    names = (*PREDICTORS, *ON_REQUEST)
    assert [predictor_named(name, trained[0]).name for name in names] == list(names)


def test_paper_model_embeds_answers_with_the_embedder_of_the_memory(
    trained: tuple[Memory, TrainSummary, TrainSummary], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    embed = trained[0].embedder.embed
    monkeypatch.setattr(trained[0].embedder, "embed", lambda texts: asked.extend(texts) or embed(texts))
    (row,) = evaluate_memory(trained[0], predictors=["paper"], budgets=[0.2], device="cpu")
    assert row.predictor == "paper"
    assert asked


def test_evaluate_leaves_the_memory_unchanged(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    memory, _, _ = trained
    before = memory.stats()
    rows = evaluate_memory(memory, predictors=["constant", "knn"], budgets=[0.5], seeds=[0, 1])
    assert [(r.predictor, r.seed) for r in rows] == [("constant", 0), ("knn", 0), ("constant", 1), ("knn", 1)]
    assert memory.stats() == before


def test_bands_of_a_model_are_those_of_its_card(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    memory, half, whole = trained
    name, rows = bands_of_model(memory)
    assert name == whole.model
    assert [row.band for row in rows] == sorted({row.band for row in rows})
    assert rows[0].coverage == 1.0
    for row in rows:
        chosen = score_memory_rollouts(memory, abstention=Abstention(Mode.WITHHOLD, risk=row.smallest_risk))
        assert chosen.band is not None
        assert chosen.band <= row.band
    assert bands_of_model(memory, half.model)[0] == half.model
    with pytest.raises(ModelError, match="has no reward model 'm-none'"):
        bands_of_model(memory, "m-none")


def test_scores_are_recorded_with_their_time(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    memory, _, _ = trained
    before = dt.datetime.now(dt.UTC)
    model = train_memory(memory, epochs=1, seed=5, device="cpu").model
    assert score_memory_rollouts(memory, model=model).scored
    snapshot = memory.snapshot()
    edges = snapshot.edges["scored_by"]
    at = snapshot.reward_models["id"].to_pylist().index(model)
    times = edges.properties["scored_at"].filter(pa.array(edges.target == at)).to_pylist()
    assert times
    assert all(before <= time <= dt.datetime.now(dt.UTC) for time in times)


def test_a_recorded_score_says_whether_it_is_remembered(trained: tuple[Memory, TrainSummary, TrainSummary]) -> None:
    memory, _, _ = trained
    right = "MATCH (t:Thinking) WHERE t.reward = 1.0 RETURN t.id ORDER BY t.id LIMIT 1"
    rollout = next(memory.cypher(right).rows)[0]
    model = train_memory(memory, epochs=1, seed=6, device="cpu").model
    memory.label({rollout: None})  # other rollouts of its query gave the same answer and are labelled
    try:
        summary = score_memory_rollouts(memory, model=model)
    finally:
        memory.label({rollout: 1.0}, source="ground_truth")
    scores = "MATCH (t:Thinking)-[s:SCORED_BY]->(m:RewardModel) WHERE m.id = $model RETURN s.source, t.id, s.reward"
    rows = list(memory.cypher(scores, {"model": model}).rows)
    assert [row[1:] for row in rows if row[0] == "remembered"] == [(rollout, 1.0)]
    assert summary.remembered == 1
    assert {row[0] for row in rows} == {"predicted", "remembered"}


@pytest.mark.parametrize("budget", [0.5, None])
def test_a_model_from_before_a_migration_says_that_its_budget_shows_other_labels(
    tmp_path: Path, budget: float | None
) -> None:
    """The ids of its training queries are those of schema 1; here, it learned from the first half of the queries."""
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([write(tmp_path / "rows.jsonl", rollouts())])
        name = train_memory(memory, budget=budget, epochs=1, device="cpu").model
        assert score_memory_rollouts(memory).warnings == []
        folder, model = model_folder(memory, name), open_model(memory, name, "cpu")
        origin, before = load_origin(folder), ids_of_schema_1(memory.snapshot())
        assert origin is not None
        shutil.rmtree(folder)
        save_model(model, folder, replace(origin, learnt=np.sort(digests(before[: QUERIES // 2]))))
        warnings = score_memory_rollouts(memory).warnings
    assert len(warnings) == (budget is not None)
    assert all(f"{name} was trained before a migration gave queries new ids" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("model.safetensors", "damaged_model"),
        ("origin.safetensors", "damaged_model"),
        ("model.json", "damaged_model"),
        (None, "missing_model"),
    ],
)
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "gone"])
def test_verify_finds_models_that_are_not_whole(
    trained: tuple[Memory, TrainSummary, TrainSummary], file: str | None, kind: str, cut: bool
) -> None:
    memory, half, _ = trained
    folder = memory.models_folder / half.model
    aside = folder.with_name("aside")
    shutil.copytree(folder, aside)
    try:
        if file is None:
            shutil.rmtree(folder)
        elif cut:
            (folder / file).write_bytes((folder / file).read_bytes()[:-7])
        else:
            (folder / file).unlink()
        found = [problem for problem in memory.verify().problems if problem.kind.endswith("_model")]
        assert [(problem.kind, problem.example) for problem in found] == [(kind, half.model)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    assert not [problem for problem in memory.verify().problems if problem.kind.endswith("_model")]


def test_a_model_of_another_version_is_listed_as_refused(tmp_path: Path) -> None:
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([write(tmp_path / "rows.jsonl", rollouts())])
        train_memory(memory, epochs=2, device="cpu")
        (entry,) = list_models(memory)
        assert (entry.here, entry.refused) == (True, None)
        description = memory.folder / entry.path / "model.json"
        description.write_text(json.dumps(json.loads(description.read_text()) | {"version": 4}))
        (entry,) = list_models(memory)
        assert entry.refused is not None
        assert "has format version 4" in entry.refused
        with pytest.raises(ModelError, match="has format version 4"):
            open_model(memory)
