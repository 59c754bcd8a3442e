"""Promotion: comparison of models on labels that neither has seen."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest

from memstore.errors import ModelError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.evaluation.promote import Comparison, Promotion, fresh_queries, promote_model, verdict_of
from memstore_gnn.models.checkpoint import load_origin, save_model
from memstore_gnn.models.registry import list_models, model_folder, model_node
from memstore_gnn.verbs import open_model, score_memory_rollouts, train_memory
from memstore_schema.columns import NodeLabel

QUERIES, LABELLED, ROLLOUTS = 60, 40, 4
NO_SCORES = pa.schema([("id", pa.string()), ("probability", pa.float64()), ("reward", pa.float64())]).empty_table()


class Kept(NamedTuple):
    """A memory with two models: `old` of half of its labels, and `new` of four fifths after more labels were added."""

    memory: Memory
    old: str
    new: str


def rollouts() -> list[dict[str, Any]]:
    """Sums; in two of three queries one rollout, or all but one, are wrong."""
    rows = []
    for number in range(QUERIES):
        for sample in range(ROLLOUTS):
            wrong = (sample == 0, sample > 0, False)[number % 3]
            answer = str(number + 7 + wrong * (1 + sample))
            row = {"query": f"How much is {number} + 7?", "query_id": f"sum-{number}", "dataset": "sums"}
            row |= {"domain": "math", "policy": "p", "run": "r", "answer": answer, "sample_index": sample}
            row["thinking"] = f"{'I guess ' if wrong else ''}{number} + 7 = {answer}"
            rows.append(row | {"reward": float(not wrong) if number < LABELLED else None})
    return rows


def truth(memory: Memory) -> dict[str, float]:
    """True labels of the rollouts without a label."""
    nodes = memory.graph.nodes(NodeLabel.THINKING, ["id", "reward", "text"]).to_pylist()
    return {node["id"]: float("guess" not in node["text"]) for node in nodes if node["reward"] is None}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Folder of the closed memory, and the ids of its models."""
    folder = tmp_path_factory.mktemp("kept")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rollouts()))
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([folder / "rows.jsonl"])
        old = train_memory(memory, budget=0.5, epochs=1, device="cpu").model
        memory.label(truth(memory))
        return folder / "memory", old, train_memory(memory, epochs=1, device="cpu").model


@pytest.fixture
def kept(trained: tuple[Path, str, str], tmp_path: Path) -> Iterator[Kept]:
    folder, old, new = trained
    with Memory.open(shutil.copytree(folder, tmp_path / "memory"), embedder=HashEmbedder()) as memory:
        yield Kept(memory, old, new)


def in_use(memory: Memory) -> str:
    (one,) = [entry.model for entry in list_models(memory) if entry.in_use]
    return one


def keep_contrary(memory: Memory, model: str) -> str:
    """Store a model that predicts the opposite of `model` in the memory, under its own id."""
    right = open_model(memory, model)
    base = replace(right.base, weights=-right.base.weights)
    card = replace(right.card, id="m-contrary")
    origin = load_origin(model_folder(memory, model))
    save_model(replace(right, base=base, card=card), memory.models_folder / card.id, origin)
    node = model_node(memory, card.id, card.snapshot, card.created_at, {})
    memory.record_scores(ScoreBatch(model=node, scores=NO_SCORES))
    return card.id


def test_fresh_queries_are_those_that_neither_model_was_trained_on(kept: Kept) -> None:
    snapshot = kept.memory.snapshot()
    origins = [load_origin(model_folder(kept.memory, name)) for name in (kept.old, kept.new)]
    assert all(origins)
    found = fresh_queries(snapshot, [origin for origin in origins if origin is not None])
    of_old = fresh_queries(snapshot, [origins[0]] if origins[0] else [])
    assert of_old.queries.sum() == QUERIES - LABELLED // 2
    assert of_old.after.sum() == QUERIES - LABELLED
    assert 0 < found.queries.sum() <= QUERIES // 5
    assert not (found.queries & ~of_old.queries).any()
    assert found.after.sum() == 0


def test_better_or_equal_model_is_promoted(kept: Kept) -> None:
    assert in_use(kept.memory) == kept.new
    promote_model(kept.memory, kept.old, least=5, force=True)
    assert in_use(kept.memory) == kept.old
    assert [entry.promoted for entry in list_models(kept.memory)] == [False, True]
    assert open_model(kept.memory).card.id == kept.old
    report = promote_model(kept.memory, kept.new, least=5)
    assert (report.current, report.promoted) == (kept.old, True)
    assert report.verdict in ("better", "equal")
    assert [one.metric for one in report.comparison] == ["auc", "advantage_soft", "ece", "gap"]
    for one in report.comparison[:3]:
        assert one.candidate is not None
        assert one.current is not None
        assert one.difference == pytest.approx(one.candidate - one.current)
    assert in_use(kept.memory) == kept.new
    assert score_memory_rollouts(kept.memory).model == kept.new


def test_too_few_fresh_labels_need_force(kept: Kept) -> None:
    report = promote_model(kept.memory, kept.old, least=QUERIES)
    assert (report.verdict, report.promoted, report.comparison) == ("too few", False, ())
    assert "labelled queries are known to be new to both" in report.reason()
    assert in_use(kept.memory) == kept.new
    forced = promote_model(kept.memory, kept.old, least=QUERIES, force=True)
    assert (forced.verdict, forced.promoted) == ("too few", True)
    assert in_use(kept.memory) == kept.old


def test_worse_model_is_not_promoted(kept: Kept) -> None:
    promote_model(kept.memory, kept.new, force=True)  # before any promotion, the newest is in use
    contrary = keep_contrary(kept.memory, kept.new)
    stats = kept.memory.stats()
    report = promote_model(kept.memory, contrary, least=5)
    assert (report.verdict, report.promoted) == ("worse", False)
    assert report.reason().startswith(f"m-contrary is worse than {kept.new} on ")
    assert in_use(kept.memory) == kept.new
    assert kept.memory.stats() == stats
    assert promote_model(kept.memory, contrary, least=5, force=True).promoted
    assert promote_model(kept.memory, kept.new, least=5).verdict == "better"


def test_unknown_model_raises(kept: Kept) -> None:
    with pytest.raises(ModelError, match="has no reward model 'm-none'"):
        promote_model(kept.memory, "m-none")


def test_model_without_files_is_listed_and_raises_on_use(kept: Kept, tmp_path: Path) -> None:
    folder = model_folder(kept.memory, kept.old)
    folder.rename(tmp_path / "elsewhere")
    assert {entry.model: entry.here for entry in list_models(kept.memory)}[kept.old] is False
    with pytest.raises(ModelError, match=f"lists the reward model {kept.old}, but its files are not here; copy"):
        open_model(kept.memory, kept.old)
    assert open_model(kept.memory, kept.new).card.id == kept.new


def figures(metric: str, candidate: float, current: float, error: float) -> Comparison:
    return Comparison(metric, candidate, current, candidate - current, error)


@pytest.mark.parametrize(
    ("comparison", "verdict"),
    [
        ((figures("auc", 0.9, 0.8, 0.02), figures("advantage_soft", 0.5, 0.5, 0.1)), "better"),
        ((figures("auc", 0.9, 0.8, 0.06), figures("advantage_soft", 0.5, 0.55, 0.1)), "equal"),
        ((figures("auc", 0.9, 0.8, 0.02), figures("advantage_soft", 0.3, 0.5, 0.05)), "worse"),
        ((figures("auc", 0.8, 0.8, 0.02), figures("ece", 0.12, 0.04, 0.01)), "worse"),
        ((figures("auc", 0.8, 0.8, 0.02), figures("ece", 0.04, 0.01, 0.01)), "equal"),
        ((figures("auc", 0.8, 0.8, 0.02), figures("ece", 0.04, 0.2, 0.01)), "equal"),
        ((figures("auc", 0.8, 0.8, 0.02), figures("gap", -0.05, 0.05, 0.04)), "worse"),
        ((figures("auc", 0.8, 0.8, 0.02), figures("gap", 0.15, 0.05, 0.04)), "better"),
        ((figures("auc", 0.8, 0.8, 0.02), Comparison("gap", -0.3, 0.3, -0.6, None)), "equal"),
        ((Comparison("advantage_soft", None, None, None, None),), "equal"),
    ],
)
def test_verdict_needs_a_difference_of_two_standard_errors(comparison: tuple[Comparison, ...], verdict: str) -> None:
    assert verdict_of(comparison) == verdict


def test_only_model_is_promoted_without_a_comparison(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rollouts()[:48]))
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([tmp_path / "rows.jsonl"])
        model = train_memory(memory, epochs=1, device="cpu").model
        report = promote_model(memory, model)
    assert report == Promotion(model, None, 0, 0, 0, (), "alone", True)
