"""Reward models on an open memory: train on it, score its rollouts or a file's, compare predictors.

The functions behind the command's verbs. A model is a folder under the memory's `models/` and a RewardModel node
that says where; its predictions are SCORED_BY edges, appended.

Which labels a model may look at is written on its card. Without a label budget: all that the memory has, also those
that came after the training. With one: those of the budget's queries, and every other rollout counts as without a
ground truth, so that `score` predicts it too and the prediction can be held against the label.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import groups_of, query_of_thinkings
from memstore_gnn.data.labels import rewards_of, visible_rewards
from memstore_gnn.data.overlay import overlay
from memstore_gnn.data.splits import label_budget, labelled_queries
from memstore_gnn.evaluation.attention import Attention
from memstore_gnn.evaluation.evaluate import EvaluationRow
from memstore_gnn.metrics import Metrics
from memstore_gnn.models.checkpoint import load_model, load_origin, save_model
from memstore_gnn.models.origin import Origin, origin_of
from memstore_gnn.models.registry import model_folder, model_node, model_nodes
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.monitoring.drift import Drift
from memstore_gnn.scoring.abstain import ABSTAINED, RISK, SHRUNK, Mode, abstain, band_for
from memstore_gnn.scoring.score import Scores, memory_target, score_memory, score_rollouts
from memstore_gnn.scoring.score_lines import write_scores
from memstore_gnn.scoring.targets import check_target
from memstore_gnn.training.device_memory import device_memory
from memstore_gnn.training.train import pick_device, train

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
    drift: Drift | None
    """How the scored rollouts differ from what the model learnt from; None where that was not recorded with it."""
    band: float | None
    """Half the width of the band around 0.5 in which it abstained; None where that was not asked for."""
    abstained: int
    """Rewards that were withheld or shrunk."""
    alone: int = 0
    """Rollouts of a file that had no sibling, though the file has others of their query."""

    def as_json(self) -> dict[str, Any]:
        """The promised document."""
        drift = None if self.drift is None else self.drift.as_json()
        return {**asdict(self), "seconds": round(self.seconds, 3), "drift": drift}


@dataclass(frozen=True)
class Abstention:
    """When to abstain, and what becomes of the reward then.

    Attributes:
        risk: share of the kept rewards that may be on the wrong side of 0.5; chooses the band.
        band: half the width of the band itself, 0..0.5; None leaves the choice to `risk`.
    """

    mode: Mode
    risk: float = RISK
    band: float | None = None


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

    Without any ground truth it is the prior that the package brings, and the model's name begins with `prior-`.

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
    with device_memory(f"training on {snapshot.thinkings.num_rows:,} rollouts"):
        result = train(snapshot, budget=budget, seed=seed, settings=settings, device=device, progress=progress)
    card = result.model.card
    save_model(result.model, memory.models_folder / card.id, origin_of(snapshot, result.splits.labelled))
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
    abstention: Abstention | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Predict every rollout of the memory that has no ground truth, and write it as SCORED_BY.

    Args:
        model: id of one of the memory's models; None takes the one in use.
        output: also write a JSON line for each.
        abstention: withhold or shrink unsure rewards in `output`; SCORED_BY keeps what the model said.

    Raises:
        ModelError: no such model, one that does not fit this memory, or one without a band for the risk.
    """
    started, progress = time.perf_counter(), progress or Silent()
    check_target(output, "scores")
    job = _Job.of(memory, model, abstention, device)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    reward = visible_to(job.model, snapshot)
    progress.stage("score")
    target = memory_target(snapshot, ~np.isfinite(reward))
    with device_memory(f"scoring {int(np.isnan(reward).sum()):,} rollouts"):
        scores = score_memory(job.model, snapshot, reward=reward, target=target)
    memory.record_scores(ScoreBatch(model={"id": job.model.card.id}, scores=_score_table(scores)))
    return job.finish(snapshot, target, query_of_thinkings(snapshot), scores, output, started)


def score_file(
    memory: Memory,
    file: str | Path,
    *,
    as_ingested: bool = False,
    model: str | None = None,
    output: Path | None = None,
    abstention: Abstention | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> ScoreSummary:
    """Predict the rollouts of a file against what the memory knows; nothing is added to the memory.

    Rewards that the file has are not looked at. Siblings are the file's rollouts of one query, policy, run and step,
    so that the file has the scores that the reward service gives to these groups.

    Args:
        as_ingested: score them as the memory would after an ingest of the file: together with what it holds of the
            same queries, whoever made it. A rollout that it holds with a label keeps that as its reward.

    Raises:
        InputError: the file cannot be read, or a row of it is no rollout or contradicts the domain of its query.
        ModelError: as `score_memory_rollouts`.
    """
    started, progress = time.perf_counter(), progress or Silent()
    check_target(output, "scores")
    job = _Job.of(memory, model, abstention, device)
    new = memory.read_rollouts([file], progress=progress)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    progress.stage("score")
    target = overlay(snapshot, new) if as_ingested else new
    with device_memory(f"scoring {new.thinkings.num_rows:,} rollouts"):
        reward = visible_to(job.model, snapshot)
        scores = score_rollouts(job.model, snapshot, new, as_ingested=as_ingested, reward=reward, target=target)
    groups = groups_of(new)
    if as_ingested:
        return job.finish(new, target, groups.query_of, scores, output, started)
    alone = int(((groups.own.size == 1) & (groups.query.size > 1)).sum())
    return replace(job.finish(new, target, groups.own.cell, scores, output, started), alone=alone)


class _Job(NamedTuple):
    """A model that scores, what it was trained on, and the band in which it abstains.

    A memory that has neither a model nor a label gets the shipped prior as its first model.
    """

    model: RewardModel
    origin: Origin | None
    mode: Mode | None
    band: float | None

    @classmethod
    def of(cls, memory: Memory, model: str | None, abstention: Abstention | None, device: str | None) -> _Job:
        if model is None and not model_nodes(memory) and not labelled_queries(memory.snapshot()).any():
            train_memory(memory, device=device)
        chosen = open_model(memory, model, device)
        origin = load_origin(model_folder(memory, chosen.card.id))
        if abstention is None:
            return cls(chosen, origin, None, None)
        band = abstention.band
        if band is None:
            band = band_for(chosen.card.risks, abstention.risk, chosen.card.id)
        return cls(chosen, origin, abstention.mode, band)

    def finish(
        self,
        snapshot: Snapshot,
        target: Snapshot,
        group: IntVector,
        scores: Scores,
        output: Path | None,
        started: float,
    ) -> ScoreSummary:
        """Abstain, look for drift in `target`, write the lines.

        Args:
            snapshot: holds the rollouts that were scored.
            group: int64 [T], the group of each of its rollouts.
        """
        abstained = 0
        if self.mode is not None and self.band is not None:
            row = pc.index_in(pa.array(scores.id.tolist(), pa.string()), snapshot.thinkings["id"].combine_chunks())
            scores = abstain(scores, group[row.to_numpy()], self.band, self.mode)
            abstained = int(np.isin(scores.source, (ABSTAINED, SHRUNK)).sum())
        if output is not None:
            write_scores(output, snapshot, scores, self.model.card.id)
        drift = None if self.origin is None else self.origin.reference.drift(target)
        seconds, where = time.perf_counter() - started, str(output) if output else None
        return ScoreSummary(len(scores.id), self.model.card.id, seconds, where, drift, self.band, abstained)


def open_model(memory: Memory, model: str | None = None, device: str | None = None) -> RewardModel:
    """Load a reward model of the memory, the one in use if none is named.

    Raises:
        ModelError: there is none, or none of this name, or its files cannot be read, or no such device.
    """
    with device_memory("loading a model"):
        return load_model(model_folder(memory, model), pick_device(device))


def visible_to(model: RewardModel, snapshot: Snapshot) -> FloatVector:
    """float64 [T]: the labels that this model may look at, NaN for all others; see the module's docstring."""
    if model.card.budget is None:
        return rewards_of(snapshot)
    return visible_rewards(snapshot, label_budget(snapshot, model.card.budget, model.card.seed).labelled)


def _score_table(scores: Scores) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(scores.id.tolist(), pa.string()),
            "probability": pa.array(scores.probability, pa.float64()),
            "reward": pa.array(scores.reward, pa.float64()),
        }
    )
