"""Training and scoring of memories that are read in parts."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstore.memory import Memory
from memstore.snapshots.take import take_outline, with_digest
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data import drawn, read_memory
from memstore_gnn.data.drawn import draw_queries
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.hetero import subgraph
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.splits import labelled_queries
from memstore_gnn.evaluation.compare import evaluate_memory
from memstore_gnn.features import reliability
from memstore_gnn.features.assemble import group_features
from memstore_gnn.features.reliability import fit_reliability, folds_of, texts_of
from memstore_gnn.models import inputs
from memstore_gnn.models.checkpoint import load_origin
from memstore_gnn.models.inputs import labelled_subgraph
from memstore_gnn.models.registry import model_folder
from memstore_gnn.scoring import score
from memstore_gnn.verbs import open_model, score_memory_rollouts, train, train_memory

QUERIES, LABELLED, ROLLOUTS = 60, 30, 4


def rows() -> Iterator[dict[str, Any]]:
    """Sums by two policies; half of the queries are labelled, and all rollouts of one decline to answer."""
    chance = np.random.default_rng(0)
    for number in range(QUERIES):
        for sample in range(ROLLOUTS):
            right = chance.random() < 0.6
            answer = str(number + 7 + (0 if right else int(chance.integers(1, 4))))
            thinking = f"Add {number} and 7: {number} + 7 = {answer}. So it is {answer}, try {sample}."
            if number == QUERIES - 1:
                thinking, answer = "", "I don't know."
            yield {
                "query": f"What is {number} + 7?",
                "dataset": "sums",
                "domain": "math",
                "policy": f"p{sample % 2}",
                "run": "r",
                "step": sample % 2,
                "sample_index": sample,
                "thinking": thinking,
                "answer": answer,
                "reward": float(right) if number < LABELLED else None,
            }


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Memory]:
    folder = tmp_path_factory.mktemp("large")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as opened:
        opened.ingest([folder / "rows.jsonl"])
        yield opened


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every memory is large."""
    monkeypatch.setattr(read_memory, "WHOLE_UP_TO", 0)
    monkeypatch.setattr(score, "BLOCK", 16)


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_outline_has_the_id_of_the_snapshot(memory: Memory) -> None:
    outline = with_digest(memory.stores, take_outline(memory.stores))
    assert outline.manifest.id == memory.snapshot().manifest.id


def test_an_outline_has_the_id_of_a_snapshot_with_features(tmp_path: Path) -> None:
    lines = [json.dumps({**row, "features": [1.0, float(number)]}) for number, row in enumerate(rows())]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines[: 3 * ROLLOUTS]) + "\n")
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as featured:
        featured.ingest([tmp_path / "rows.jsonl"])
        whole, outline = featured.snapshot(), with_digest(featured.stores, take_outline(featured.stores))
    assert whole.has_features is not None
    assert whole.has_features.all()
    assert outline.manifest.id == whole.manifest.id


def test_training_in_parts_gives_the_same_model(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_memory(memory, budget=0.5, epochs=2, device="cpu")
    model, origin = open_model(memory), load_origin(model_folder(memory))
    monkeypatch.setattr(read_memory, "WHOLE_UP_TO", 0)
    parts = train_memory(memory, budget=0.5, epochs=2, device="cpu")
    assert parts.model == whole.model
    assert parts.rows == whole.rows
    assert np.array_equal(open_model(memory).base.weights, model.base.weights)
    again = load_origin(model_folder(memory))
    assert origin is not None
    assert again is not None
    assert np.array_equal(again.learnt, origin.learnt)
    assert np.array_equal(again.labelled, origin.labelled)


def test_scoring_in_parts_gives_the_same_scores(
    memory: Memory, tmp_path: Path, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
) -> None:
    train_memory(memory, epochs=2, device="cpu")
    whole = score_memory_rollouts(memory, output=tmp_path / "whole.jsonl", device="cpu")
    request.getfixturevalue("in_parts")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        parts = score_memory_rollouts(memory, output=tmp_path / "parts.jsonl", device="cpu")
    assert parts.scored == whole.scored == (QUERIES - LABELLED) * ROLLOUTS
    assert parts.drift == whole.drift
    for one, other in zip(written(tmp_path / "whole.jsonl"), written(tmp_path / "parts.jsonl"), strict=True):
        assert other["probability"] == pytest.approx(one["probability"], abs=1e-6)
        assert {**other, "probability": 0, "reward": 0} == {**one, "probability": 0, "reward": 0}
    assert [f"{ROLLOUTS} rollouts are in groups that all decline" in line for line in caplog.messages].count(True) == 1


def test_a_bounded_training_reads_labelled_and_report_queries_in_proportion(
    memory: Memory, in_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "MOST_LABELLED", 20 * ROLLOUTS)
    monkeypatch.setattr(train, "MOST_OTHERS", 5 * ROLLOUTS)
    summary = train_memory(memory, budget=0.5, epochs=2, device="cpu")
    assert summary.queries["train"] + summary.queries["select"] == 10
    assert summary.queries["report"] == 10
    origin = load_origin(model_folder(memory))
    assert origin is not None
    assert (len(origin.learnt), len(origin.labelled)) == (10, LABELLED)
    assert open_model(memory).card.snapshot == memory.snapshot().manifest.id
    assert score_memory_rollouts(memory, device="cpu").scored == (QUERIES - 15) * ROLLOUTS


def test_scoring_reads_the_labels_of_a_bounded_number_of_queries(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "MOST_LABELLED", 7 * ROLLOUTS)
    snapshot = memory.snapshot()
    part, kept = labelled_subgraph(snapshot, rewards_of(snapshot))
    assert part.queries.num_rows == 7
    assert np.isfinite(rewards_of(snapshot)[kept]).all()
    again, _ = labelled_subgraph(part, rewards_of(part))
    assert again.queries["id"].equals(part.queries["id"])


def test_the_draw_of_a_query_does_not_depend_on_the_snapshot_around_it(memory: Memory) -> None:
    snapshot = memory.snapshot()
    wanted = labelled_queries(snapshot)
    some = draw_queries(snapshot, wanted, 10 * ROLLOUTS)
    assert int(some.sum()) == 10
    assert not (some & ~wanted).any()
    ids = snapshot.queries["id"].to_numpy()
    alone = subgraph(snapshot, ids[wanted].tolist())
    every = np.ones(alone.queries.num_rows, np.bool_)
    found = draw_queries(alone, every, 10 * ROLLOUTS)
    assert sorted(alone.queries["id"].to_numpy()[found]) == sorted(ids[some])
    assert draw_queries(snapshot, wanted, drawn.MOST_LABELLED) is wanted
    assert int(draw_queries(snapshot, wanted, 1).sum()) == 1


def test_reliability_of_a_large_memory_is_fitted_to_some_queries_and_predicted_for_all(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = memory.snapshot()
    features, groups = group_features(snapshot), groups_of(snapshot)
    arguments = texts_of(snapshot), features.table, groups, folds_of(snapshot)[query_of_thinkings(snapshot)]
    whole = fit_reliability(*arguments)
    monkeypatch.setattr(reliability, "MOST_READ", QUERIES * ROLLOUTS // 2)
    some = fit_reliability(*arguments)
    assert some.reliability.shape == whole.reliability.shape
    assert np.isfinite(some.reliability).all()
    predicted = some.model.predict(*arguments)
    assert np.array_equal(some.reliability, predicted.reliability)
    assert not np.array_equal(some.model.weights, whole.model.weights)


def test_a_large_memory_is_evaluated_on_the_queries_that_are_drawn(
    memory: Memory, in_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = evaluate_memory(memory, predictors=["vote_share"], budgets=[0.5])
    assert [row.queries for row in rows] == [LABELLED // 2]
    monkeypatch.setattr(read_memory, "MOST_LABELLED", 10 * ROLLOUTS)
    assert [row.queries for row in evaluate_memory(memory, predictors=["vote_share"], budgets=[0.5])] == [5]
