"""Reward models on an open memory: train on it, score its rollouts or a file's, compare predictors.

The functions behind the command's verbs. A model is a folder under the memory's `models/` and a RewardModel node
that says where; its predictions are SCORED_BY edges, appended.

Which labels a model may look at is written on its card. Without a label budget: all that the memory has, also those
that came after the training. With one: those of the budget's queries, and every other rollout counts as without a
ground truth, so that `score` predicts it too and the prediction can be held against the label.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from memstore.errors import InputError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.rollouts import read_rollouts
from memstore.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.checkpoint import load_model, save_model
from memstore_gnn.evaluate import EvaluationRow, evaluate, rewards_of
from memstore_gnn.metrics import Metrics
from memstore_gnn.model.reward_model import RewardModel
from memstore_gnn.model.settings import TrainSettings
from memstore_gnn.model_list import model_folder, model_node
from memstore_gnn.predictors.attention import Attention
from memstore_gnn.predictors.constant import Constant
from memstore_gnn.predictors.knn import NearestNeighbours
from memstore_gnn.predictors.label_propagation import LabelPropagation
from memstore_gnn.predictors.logistic import Boosting, Logistic
from memstore_gnn.predictors.protocol import Predictor
from memstore_gnn.predictors.shrunken import Shrunken
from memstore_gnn.predictors.vote_share import VoteShare
from memstore_gnn.score import Scores, score_memory, score_rollouts
from memstore_gnn.score_lines import check_output, write_scores
from memstore_gnn.splits import label_budget
from memstore_gnn.train import pick_device, train, visible_rewards

PREDICTORS = ("constant", "vote_share", "knn", "label_propagation", "logistic", "boosting", "shrunken", "attention")
"""Names that `evaluate_memory` knows; `attention` is what `train_memory` makes, `shrunken` its base alone."""
NO_SCORES = Scores(np.empty(0, object), np.empty(0), np.empty(0), np.empty(0, object))


@dataclass(frozen=True)
class TrainSummary:
    """What `train_memory` made."""

    model: str
    snapshot: str
    queries: dict[str, int]
    """How many queries it learnt from (train), was chosen and calibrated on (select), was measured on (report)."""
    rows: list[EvaluationRow]
    """The model and simple rules on the report queries, for each dataset."""
    seconds: float

    @property
    def metrics(self) -> dict[str, float | None]:
        """The model's figures: the datasets' mean, weighted by their rollouts; None for one that cannot be had."""
        return overall([row for row in self.rows if row.predictor == Attention.name])

    def as_json(self) -> dict[str, Any]:
        """The promised document; `metrics.datasets` has the rows of the simple rules, too."""
        return {
            "model": self.model,
            "snapshot": self.snapshot,
            "queries": self.queries,
            "metrics": {**self.metrics, "datasets": [row.to_json() for row in self.rows]},
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class ScoreSummary:
    """What `score_memory_rollouts` or `score_file` did; `as_json` has the promised keys."""

    scored: int
    model: str
    seconds: float
    output: str | None

    def as_json(self) -> dict[str, Any]:
        """The promised document."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def train_memory(
    memory: Memory,
    *,
    budget: float | None = None,
    seed: int = 0,
    epochs: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> TrainSummary:
    """Train a reward model on the memory's ground truth and keep it in the memory.

    Args:
        budget: share of the labelled queries whose labels it may see, 0..1; None: all, save those of the report.
        epochs: an upper bound for each network of the ensemble; None keeps the usual one.

    Raises:
        ModelError: there is nothing to learn from.
    """
    progress = progress or Silent()
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    settings = TrainSettings() if epochs is None else TrainSettings(epochs=epochs)
    result = train(snapshot, budget=budget, seed=seed, settings=settings, device=device, progress=progress)
    card = result.model.card
    save_model(result.model, memory.models_folder / card.id)
    summary = TrainSummary(card.id, card.snapshot, card.queries, result.metrics, result.seconds)
    node = model_node(memory, card.id, card.snapshot, card.created_at, summary.as_json()["metrics"])
    memory.record_scores(ScoreBatch(model=node, scores=_score_table(NO_SCORES)))
    return summary


def overall(rows: Sequence[EvaluationRow]) -> dict[str, float | None]:
    """Each metric as the rows' mean, weighted by their rollouts; None where no row has it."""
    figures: dict[str, float | None] = {}
    for name in Metrics._fields:
        values = np.array([getattr(row, name) for row in rows], np.float64)
        weights = np.array([row.rollouts for row in rows], np.float64)
        known = np.isfinite(values) & (weights > 0)
        figures[name] = float(np.average(values[known], weights=weights[known])) if known.any() else None
    return figures


def score_memory_rollouts(
    memory: Memory,
    *,
    model: str | None = None,
    output: Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Predict every rollout of the memory that has no ground truth, and write it as SCORED_BY.

    Args:
        model: id of one of the memory's models; None takes the newest.
        output: also write a JSON line for each.

    Raises:
        ModelError: no such model, or one that does not fit this memory.
    """
    started, progress = time.perf_counter(), progress or Silent()
    check_output(output)
    chosen = open_model(memory, model, device)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    progress.stage("score")
    scores = score_memory(chosen, snapshot, reward=visible_to(chosen, snapshot))
    memory.record_scores(ScoreBatch(model={"id": chosen.card.id}, scores=_score_table(scores)))
    return _finish(chosen, snapshot, scores, output, started)


def score_file(
    memory: Memory,
    file: str | Path,
    *,
    model: str | None = None,
    output: Path | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Predict the rollouts of a file against what the memory knows; nothing is added to the memory.

    Rewards that the file has are not looked at. A rollout that the memory holds with a label keeps that as its
    reward; its probability is the model's, who does not see the labels of the same query.

    Raises:
        InputError: the file cannot be read, or a row of it is no rollout.
        ModelError: no such model, or one that does not fit this memory.
    """
    started, progress = time.perf_counter(), progress or Silent()
    check_output(output)
    chosen = open_model(memory, model, device)
    new = read_rollouts(memory, [file], progress=progress)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    progress.stage("score")
    scores = score_rollouts(chosen, snapshot, new, reward=visible_to(chosen, snapshot))
    return _finish(chosen, new, scores, output, started)


def _finish(
    model: RewardModel, snapshot: Snapshot, scores: Scores, output: Path | None, started: float
) -> ScoreSummary:
    if output is not None:
        write_scores(output, snapshot, scores, model.card.id)
    seconds = time.perf_counter() - started
    return ScoreSummary(len(scores.id), model.card.id, seconds, str(output) if output else None)


def open_model(memory: Memory, model: str | None = None, device: str | None = None) -> RewardModel:
    """Load a reward model of the memory, the newest if none is named.

    Raises:
        ModelError: there is none, or none of this name, or its files cannot be read, or no such device.
    """
    return load_model(model_folder(memory, model), pick_device(device))


def visible_to(model: RewardModel, snapshot: Snapshot) -> FloatVector:
    """float64 [T]: the labels that this model may look at, NaN for all others; see the module's docstring."""
    if model.card.budget is None:
        return rewards_of(snapshot)
    return visible_rewards(snapshot, label_budget(snapshot, model.card.budget, model.card.seed).labelled)


def evaluate_memory(
    memory: Memory,
    *,
    predictors: Sequence[str] | None = None,
    budgets: Sequence[float] = (0.2,),
    seeds: Sequence[int] = (0,),
    datasets: Sequence[str] | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> list[EvaluationRow]:
    """Compare predictors on labels that are hidden from them; the memory is only read.

    Args:
        predictors: some of `PREDICTORS`; None takes all.
        datasets: report these only.

    Raises:
        InputError: a predictor or dataset that there is not, a budget that is no share, no ground truth.
    """
    progress = progress or Silent()
    chosen = [predictor_named(name, device) for name in predictors or PREDICTORS]
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    progress.stage("evaluate", len(chosen) * len(budgets) * len(seeds))
    return evaluate(snapshot, chosen, budgets, seeds, datasets, progress=lambda line: progress.advance(1))


def predictor_named(name: str, device: str | None = None) -> Predictor:
    """A predictor by its name in tables.

    Raises:
        InputError: there is none of this name.
    """
    plain = {
        p.name: p
        for p in (Constant(), VoteShare(), NearestNeighbours(), LabelPropagation(), Logistic(), Boosting(), Shrunken())
    }
    known: Mapping[str, Predictor] = {**plain, Attention.name: Attention(device=device)}
    if name not in known:
        raise InputError(f"there is no predictor {name!r}; there are {', '.join(PREDICTORS)}")
    return known[name]


def _score_table(scores: Scores) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(scores.id.tolist(), pa.string()),
            "probability": pa.array(scores.probability, pa.float64()),
            "reward": pa.array(scores.reward, pa.float64()),
        }
    )
