"""Train a reward model on a memory, report it on held-out labelled queries and store it in the memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from memstore.errors import InputError, ModelError
from memstore.graph.protocol import ScoreBatch
from memstore.html_table import html_table
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import Contents, with_digest
from memstore.types import BoolVector, FloatVector
from memstore_gnn.baselines.logistic import Logistic
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.data.drawn import MOST_LABELLED, MOST_OTHERS, draw_queries
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.labels import visible_rewards
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.data.read_memory import read_memory
from memstore_gnn.data.splits import Split, labelled_queries
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import Visibility, audit_of, check_hidden, visible_split
from memstore_gnn.evaluation.evaluate import EvaluationRow, evaluate_split
from memstore_gnn.evaluation.own_model import OwnModel
from memstore_gnn.metrics import Metrics
from memstore_gnn.models.checkpoint import save_model
from memstore_gnn.models.device import device_memory
from memstore_gnn.models.origin import Origin, labelled_digests, origin_of
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.registry import model_node
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.models.stored_model import seen_by
from memstore_gnn.scoring.mixed_policies import mixed_in_memory, warning_of
from memstore_gnn.scoring.reliability import estimate_reliabilities, reliability_edges
from memstore_gnn.scoring.score import Scores, predict_memory
from memstore_gnn.scoring.score_table import score_table
from memstore_gnn.training.fit import fit, fit_prior

NO_SCORES = Scores(*(np.empty(0, kind) for kind in (object, float, float, object, object, object)))


@dataclass(frozen=True, repr=False)
class TrainSummary:
    """Result of `train_memory`."""

    model: str
    """Id of the model."""
    snapshot: str
    """Id of the snapshot it was trained on."""
    queries: dict[str, int]
    """Number of labelled queries that it is fitted to (train and select; predictors that select settings do so by the
    latter), and of those for the report (report)."""
    rows: list[EvaluationRow]
    """The model and two baselines on the report queries, for each data set."""
    seconds: float
    trust: float = 0.0
    """Factor of the graph network's correction of stored votes, 0..1; 0: held-out queries did not trust it, or there
    was too little to train it."""
    warnings: list[str] = field(default_factory=list)
    """Sentences about contradicting labels, and about a policy whose rollouts another seems to have written."""

    @property
    def metrics(self) -> dict[str, float | None]:
        """Metrics of the model, averaged over the data sets by their rollouts; None if a metric is undefined."""
        return overall([row for row in self.rows if row.predictor == OwnModel.name])

    def as_json(self) -> dict[str, Any]:
        """The summary as the JSON that `memstore train` prints; `metrics.datasets` includes the baselines."""
        return {
            "model": self.model,
            "snapshot": self.snapshot,
            "queries": self.queries,
            "metrics": {**self.metrics, "datasets": [row.to_json() for row in self.rows]},
            "seconds": round(self.seconds, 3),
            "trust": self.trust,
            "warnings": self.warnings,
        }

    def __repr__(self) -> str:
        queries = ", ".join(f"{count} {name}" for name, count in self.queries.items())
        known = ", ".join(
            f"{name}={value:.3f}"
            for name, value in self.metrics.items()
            if value is not None and name in ("auc", "advantage_soft", "ece")
        )
        return f"TrainSummary({self.model!r}, queries: {queries}; {known or 'not reported'}; {self.seconds:.1f} s)"

    def _repr_html_(self) -> str:
        rows = [tuple(asdict(row).values()) for row in self.rows]
        return html_table([field.name for field in fields(EvaluationRow)], rows, title=repr(self))


@dataclass(frozen=True)
class TrainResult:
    """A trained model, its training data, and its evaluation next to baselines on the report queries."""

    model: RewardModel
    metrics: list[EvaluationRow]
    splits: Split
    """Of the queries that were read."""
    origin: Origin
    seconds: float

    def summary(self) -> TrainSummary:
        """The result without the model itself."""
        card, trust = self.model.card, self.model.correction.trust
        return TrainSummary(card.id, card.snapshot, card.queries, self.metrics, self.seconds, trust)


def train_memory(
    memory: Memory,
    *,
    budget: float | None = None,
    seed: int = 0,
    epochs: int | None = None,
    audit: Iterable[str] = (),
    hidden_runs: Iterable[str] = (),
    last_steps: int | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> TrainSummary:
    """Train a reward model on the memory's ground truth and store it in the memory.

    The reliabilities of the memory's policies, by the labels that the model may see, are stored as RELIABLE_IN edges.

    Without any ground truth, the model is the prior that the package ships, and its id begins with `prior-`.

    Args:
        budget: share of the labelled queries whose labels it may see, 0..1; None: all but those of the report.
        seed: of the split and of everything random.
        epochs: training steps of each network; None uses the default.
        audit: texts of queries whose labels the model never sees or recalls; they are for the report.
        hidden_runs: names of runs; the same holds for the queries that they attempted.
        last_steps: train on the last so many steps of each run, see `train_snapshot`.
        device: `cpu` or `cuda`; None takes a GPU if there is one.

    Raises:
        ModelError: the memory has no rollouts, or its labels have one class or belong to one query.
        InputError: as in `train_snapshot`.
        ReadOnlyError: the memory's folder cannot be written to.
    """
    memory.stores.check_writable()
    progress = progress or Silent()
    progress.stage("read the memory")
    snapshot, contents = read_memory(memory)
    if contents is not None:
        snapshot = with_digest(memory.stores, snapshot)
    settings = TrainSettings() if epochs is None else TrainSettings(epochs=epochs)
    with device_memory(f"training on {snapshot.thinkings.num_rows:,} rollouts"):
        result = train_snapshot(
            snapshot,
            budget=budget,
            seed=seed,
            audit=audit,
            hidden_runs=hidden_runs,
            last_steps=last_steps,
            settings=settings,
            device=device,
            progress=progress,
            contents=contents,
        )
    card = result.model.card
    save_model(result.model, memory.models_folder / card.id, result.origin)
    verdicts = verdicts_of(snapshot, seen_by(result.model, snapshot))
    estimates = estimate_reliabilities(snapshot, verdicts)
    summary = result.summary()
    record_model(memory, summary, card.created_at, reliability_edges(estimates))
    found = (verdicts.warning(), warning_of(mixed_in_memory(snapshot, estimates)))
    return replace(summary, warnings=[warning for warning in found if warning])


def record_model(memory: Memory, summary: TrainSummary, created_at: str, reliabilities: pa.Table) -> None:
    """Add a model whose files are in the memory's folder to the graph, with the reliabilities that it was trained on.

    Args:
        created_at: of its card.
        reliabilities: RELIABLE_IN edges, see `memstore_gnn.scoring.reliability.reliability_edges`.
    """
    node = model_node(memory, summary.model, summary.snapshot, created_at, summary.as_json()["metrics"])
    memory.record_scores(ScoreBatch(model=node, scores=score_table(NO_SCORES)))
    memory.graph.replace_reliabilities(reliabilities)


def train_snapshot(
    snapshot: Snapshot,
    *,
    budget: float | None = None,
    seed: int = 0,
    audit: Iterable[str] = (),
    hidden_runs: Iterable[str] = (),
    last_steps: int | None = None,
    settings: TrainSettings | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    contents: Contents | None = None,
) -> TrainResult:
    """Train on a snapshot and report on labelled queries that training did not see; see `train_visible`.

    Args:
        budget: share of each data set's labelled queries whose labels training may see, 0..1; the rest is for the
            report. None lets it see all but `settings.report_share`.
        seed: of the split and of everything random.
        audit, hidden_runs: as in `train_memory`.
        last_steps, settings, device, progress, contents: as in `train_visible`.

    Raises:
        ModelError, InputError: as in `train_visible`.
        InputError: there is no such run, or none of the audit queries.
    """
    shown = Visibility(budget, seed, audit_of(audit), frozenset(hidden_runs))
    check_hidden(snapshot, shown)
    return train_visible(
        snapshot,
        shown,
        last_steps=last_steps,
        settings=settings,
        device=device,
        progress=progress,
        contents=contents,
    )


def train_visible(
    snapshot: Snapshot,
    shown: Visibility,
    *,
    last_steps: int | None = None,
    settings: TrainSettings | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
    contents: Contents | None = None,
) -> TrainResult:
    """Train on what may be seen of a snapshot's labels and report on labelled queries that training did not see.

    Of a large snapshot, some queries are read (`memstore_gnn.data.drawn`).

    Args:
        shown: what the model may see, now and when it scores; its seed is that of the training, too.
        last_steps: train on the rollouts of each run's last so many steps, as the policy is now, and on those without a
            step; None: on all. Scoring and the report read all rollouts of the memory.
        device: `cpu`, `cuda` or a torch device; None takes a GPU if there is one.
        contents: adds texts and vectors to the queries that are read, if the snapshot is an outline.

    Raises:
        ModelError: the snapshot has no rollouts, or the labels to train on have one class or belong to one query.
        InputError: `last_steps` is not positive.
    """
    started = time.perf_counter()
    settings = settings or TrainSettings()
    if not snapshot.thinkings.num_rows:
        raise ModelError("the memory has no rollouts to score or to learn from; add some with `memstore ingest`")
    seed, share = shown.seed, 1.0 - settings.report_share if shown.budget is None else shown.budget
    learnable, whole = labelled_queries(snapshot), snapshot
    nothing = Split(*(np.zeros((3, len(learnable)), np.bool_)))
    split = visible_split(snapshot, shown, share) if learnable.any() else nothing
    snapshot, split, latest = _part_to_read(snapshot, split, latest_rollouts(snapshot, last_steps), contents)
    origin = replace(origin_of(snapshot, split.labelled), labelled=labelled_digests(whole))
    part = snapshot if latest.all() else some_rollouts(snapshot, latest)
    if not learnable.any():
        model = fit_prior(part, SharedPrior.shipped(), seed=seed, settings=settings, device=device)
        model = _with_card(model, whole, shown, last_steps)
        return TrainResult(model, [], split, origin, time.perf_counter() - started)
    visible = visible_rewards(snapshot, split.labelled)
    model = fit(part, visible[latest], seed=seed, settings=settings, device=device, progress=progress)
    metrics = _report(model, snapshot, visible, split, share, seed) if split.report.any() else []
    queries = {name: int(getattr(split, name).sum()) for name in ("train", "select", "report")}
    card = replace(model.card, queries=queries, metrics=[row.to_json() for row in metrics])
    model = _with_card(replace(model, card=card), whole, shown, last_steps)
    return TrainResult(model, metrics, split, origin, time.perf_counter() - started)


def _part_to_read(
    snapshot: Snapshot, split: Split, latest: BoolVector, contents: Contents | None
) -> tuple[Snapshot, Split, BoolVector]:
    """The queries to read, with texts and vectors; their split, and which of their rollouts (bool [T]) are the latest.

    Training and report queries are read in the share that they have.
    """
    labelled = split.labelled | split.report
    rollouts = np.bincount(query_of_thinkings(snapshot), minlength=len(labelled))
    share = rollouts[split.labelled].sum() / max(int(rollouts[labelled].sum()), 1)
    read = draw_queries(snapshot, split.labelled, round(share * MOST_LABELLED))
    read = read | draw_queries(snapshot, split.report, round((1.0 - share) * MOST_LABELLED))
    read = read | draw_queries(snapshot, ~labelled, MOST_OTHERS)
    if not read.all():
        rows = read[query_of_thinkings(snapshot)]
        snapshot, split = some_rollouts(snapshot, rows), split.among(read)
        latest = latest[rows]
    return (snapshot if contents is None else contents(snapshot)), split, latest


def latest_rollouts(snapshot: Snapshot, last_steps: int | None) -> BoolVector:
    """The rollouts of each run's last so many steps and those without a step, bool [T]; all of them for None.

    Raises:
        InputError: the number of steps is not positive.
    """
    if last_steps is None:
        return np.ones(snapshot.thinkings.num_rows, np.bool_)
    if last_steps < 1:
        raise InputError(f"the last {last_steps} steps are no steps; pass 1 or more")
    rollouts = snapshot.thinkings.select(["run", "step"])
    last = rollouts.group_by("run").aggregate([("step", "max")])
    newest = last["step_max"].take(pc.index_in(rollouts["run"], value_set=last["run"].combine_chunks()))
    behind = pc.subtract(newest, rollouts["step"])
    return np.asarray(pc.fill_null(pc.less(behind, last_steps), True).to_numpy(), np.bool_)


def _with_card(model: RewardModel, snapshot: Snapshot, shown: Visibility, last_steps: int | None) -> RewardModel:
    """Record on the card what the model may see and what it was trained on."""
    card = replace(
        model.card,
        snapshot=snapshot.manifest.id,
        last_steps=last_steps,
        budget=shown.budget,
        seed=shown.seed,
        audit=sorted(shown.audit),
        hidden_runs=sorted(shown.hidden_runs),
    )
    return replace(model, card=card)


def overall(rows: Sequence[EvaluationRow]) -> dict[str, float | None]:
    """Mean of each metric over the rows, weighted by their rollouts; None if no row has the metric."""
    figures: dict[str, float | None] = {}
    for name in Metrics._fields:
        values = np.array([getattr(row, name) for row in rows], np.float64)
        weights = np.array([row.rollouts for row in rows], np.float64)
        known = np.isfinite(values) & (weights > 0)
        figures[name] = float(np.average(values[known], weights=weights[known])) if known.any() else None
    return figures


@dataclass(frozen=True)
class _Precomputed:
    """Predictor that returns given probabilities."""

    name: str
    probability: FloatVector

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        return self.probability


def _report(
    model: RewardModel, snapshot: Snapshot, visible: FloatVector, split: Split, share: float, seed: int
) -> list[EvaluationRow]:
    """Evaluate the model, vote share and logistic regression on the report queries of each data set."""
    probability = predict_memory(model, snapshot, visible, np.ones(len(visible), np.bool_))
    predictors: list[Predictor] = [VoteShare(), Logistic(), _Precomputed(OwnModel.name, probability)]
    return evaluate_split(snapshot, predictors, split, share, seed)
