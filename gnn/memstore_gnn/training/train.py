"""Train a reward model on a memory's labels, and report it on labelled queries that it never saw.

Three sets of queries, cut by `memstore_gnn.data.splits`: train and select together are the labels that training may
see, report is measured once, at the end. Inside the visible part roles rotate: the labelled queries are cut into as
many folds as the ensemble has members; a member is judged on one fold, stops early on the next, and learns from all
others. What it says of the first, where nothing of it was chosen, is what decides whether networks may speak and
what the calibration is fitted to. So every label is learnt from and every choice is made on queries that the
chooser did not see.

A memory without any label gets the prior that the package brings, and its model's name says so (`prior-...`).

The base comes first; networks learn what it leaves over, from its held-out logits, and start at no correction.
Deterministic for a seed on a CPU.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import torch

from memstore.errors import ModelError
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.baselines.logistic import Logistic
from memstore_gnn.baselines.vote_share import VoteShare
from memstore_gnn.data.groups import Partition, query_of_thinkings
from memstore_gnn.data.labels import visible_rewards
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.data.splits import Split, label_budget, labelled_queries
from memstore_gnn.evaluation.evaluate import EvaluationRow, evaluate
from memstore_gnn.features.assemble import label_free
from memstore_gnn.models.base import fit_base
from memstore_gnn.models.calibration import Calibration, calibrate_places, fit_calibration, logit_by_place, sigmoid
from memstore_gnn.models.design import Scale
from memstore_gnn.models.inputs import (
    LabelledPart,
    check_rewards,
    check_vectors,
    fit_projection,
    group_tensors,
    labelled_part,
    read_target,
)
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.reward_model import ModelCard, RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.scoring.abstain import risk_bands
from memstore_gnn.training.fit_network import Lesson, fit_network
from memstore_gnn.training.threads import one_core

LEAST_FOLDS = 3
"""One to learn from, one to stop on, one to judge on: with fewer labelled queries there are no networks."""


@dataclass(frozen=True)
class TrainResult:
    """A model, how good it is on the report queries beside simple rules, and which queries were for what."""

    model: RewardModel
    metrics: list[EvaluationRow]
    splits: Split
    seconds: float


def train(
    snapshot: Snapshot,
    *,
    budget: float | None = None,
    seed: int = 0,
    settings: TrainSettings | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train on what a memory knows.

    Args:
        budget: share of each dataset's labelled queries whose labels training may see, 0..1; the rest reports.
            None lets it see all but `settings.report_share`.
        seed: of the split and of everything random.
        device: `cpu`, `cuda` or a torch device; None takes a GPU where there is one.

    Raises:
        ModelError: no rollouts; or labels of one class, or of one query only: there is nothing to learn.
    """
    started = time.perf_counter()
    settings = settings or TrainSettings()
    if not snapshot.thinkings.num_rows:
        raise ModelError("the memory has no rollouts to score or to learn from; bring some with `memstore ingest`")
    if not labelled_queries(snapshot).any():
        model = fit_prior(snapshot, SharedPrior.shipped(), seed=seed, settings=settings, device=device)
        return TrainResult(model, [], Split(*(np.zeros((3, snapshot.queries.num_rows), np.bool_))), _since(started))
    share = 1.0 - settings.report_share if budget is None else budget
    split = label_budget(snapshot, share, seed)
    visible = visible_rewards(snapshot, split.labelled)
    model = fit(snapshot, visible, seed=seed, settings=settings, device=device, progress=progress)
    metrics = _report(model, snapshot, visible, share, seed) if split.report.any() else []
    queries = {name: int(getattr(split, name).sum()) for name in ("train", "select", "report")}
    card = replace(model.card, budget=budget, queries=queries, metrics=[row.to_json() for row in metrics])
    return TrainResult(replace(model, card=card), metrics, split, _since(started))


def _since(started: float) -> float:
    return time.perf_counter() - started


@one_core()
def fit_prior(
    snapshot: Snapshot,
    prior: SharedPrior,
    *,
    seed: int = 0,
    settings: TrainSettings | None = None,
    device: str | torch.device | None = None,
) -> RewardModel:
    """The model of a memory without labels: what other sets have taught, and the memory's own votes and skill."""
    settings = settings or TrainSettings()
    check_vectors(snapshot)
    free = label_free(snapshot)
    part = labelled_part(snapshot, np.full(snapshot.thinkings.num_rows, np.nan), free.reliability)
    target = read_target(part.snapshot, part)
    base = fit_base(prior.scale, part.free, target.near, target.places, part.reward, seed, prior).base
    card = replace(
        _card(snapshot, part, settings, seed, "prior-"), queries=dict.fromkeys(("train", "select", "report"), 0)
    )
    return RewardModel(
        card, base, fit_projection(part, settings.network.projection), (), Calibration(), pick_device(device)
    )


@one_core()
def fit(
    snapshot: Snapshot,
    reward: FloatVector,
    *,
    seed: int = 0,
    settings: TrainSettings | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> RewardModel:
    """Fit a model to these labels and measure nothing.

    Args:
        reward: float64 [T], NaN for every label that is not to be seen.

    Raises:
        ModelError: as `train`.
    """
    settings, progress = settings or TrainSettings(), progress or Silent()
    check_rewards(snapshot, reward)
    _check_labels(snapshot, reward)
    check_vectors(snapshot)
    where = pick_device(device)
    free = label_free(snapshot)
    part = labelled_part(snapshot, reward, free.reliability)
    rows = part.labelled
    label, query = part.reward[rows], part.groups.query_of[rows]
    fold = _folds(query, settings.members, seed)
    target = read_target(part.snapshot, part)
    base, held_out = fit_base(Scale.of([free.table]), part.free, target.near, target.places, part.reward, seed)
    held_out = Partition.of(part.groups.answer.cell[rows]).mean(held_out)
    projection = fit_projection(part, settings.network.projection)
    groups = group_tensors(target, base.scale, base.near, projection, where)
    progress.stage("train", settings.members * settings.epochs)
    networks, correction = [], np.zeros(len(rows))
    count = int(fold.max()) + 1
    for member in range(count if count >= LEAST_FOLDS else 0):
        judged, stop = fold == member, fold == (member + 1) % count
        lesson = Lesson(groups, part, rows, label, held_out, ~(judged | stop), stop)
        network, opinion = fit_network(lesson, settings, seed=seed * 1000 + member, device=where, progress=progress)
        networks.append(network)
        correction[judged] = opinion[judged]
    calibration = fit_calibration(held_out, correction, label, query, fold)
    readers = base.readers([target.places[row] for row in rows.tolist()])
    own = calibrate_places(calibration, held_out, correction, label, query, readers)
    base = base.calibrated(calibration, own)
    risks = risk_bands(sigmoid(logit_by_place(calibration, own, held_out, correction, readers)), label, query)
    card = replace(_card(snapshot, part, settings, seed), risks=[one._asdict() for one in risks])
    return RewardModel(card, base, projection, tuple(networks), calibration, where)


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, else a GPU where there is one.

    Raises:
        ModelError: a device that torch does not have here.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"torch has no device {str(device)!r} here; use cpu") from error
    return chosen


def _check_labels(snapshot: Snapshot, reward: FloatVector) -> None:
    known = np.isfinite(reward)
    label, query = reward[known], query_of_thinkings(snapshot)[known]
    if not len(label):
        raise ModelError("no label is visible to the training; label some rollouts or raise the budget")
    if len(np.unique(query)) < 2:
        raise ModelError("only one query is labelled and a reward model needs two at least; label more queries")
    if len(np.unique(label > 0.5)) < 2:
        kind = "right" if label[0] > 0.5 else "wrong"
        raise ModelError(f"all {len(label)} visible labels say {kind}: there is nothing to tell apart; label others")


def _folds(query: IntVector, members: int, seed: int) -> IntVector:
    """int64 [N]: the fold of each row, the same for all rows of a query; no fold is empty."""
    _, cell = np.unique(query, return_inverse=True)
    count = int(cell.max()) + 1
    fold = np.empty(count, np.int64)
    fold[np.random.default_rng(seed).permutation(count)] = np.arange(count) % min(members, count)
    return fold[cell]


def _card(snapshot: Snapshot, part: LabelledPart, settings: TrainSettings, seed: int, prefix: str = "m-") -> ModelCard:
    """The id is a digest of what the model was made from: training again gives the same one."""
    manifest = snapshot.manifest
    digest = hashlib.blake2b(digest_size=8)
    for entry in (manifest.id, manifest.embedder, settings, seed, version("memstore")):
        digest.update(repr(entry).encode())
    digest.update(part.reward.tobytes())
    return ModelCard(
        id=prefix + digest.hexdigest(),
        snapshot=manifest.id,
        embedder=manifest.embedder,
        splitter=manifest.splitter,
        settings=settings,
        budget=None,
        seed=seed,
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        code_version=version("memstore"),
        torch_version=torch.__version__,
    )


@dataclass(frozen=True)
class _Made:
    """Predictions that were made already, as a row of the table."""

    name: str
    probability: FloatVector

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        return self.probability


def _report(
    model: RewardModel, snapshot: Snapshot, visible: FloatVector, share: float, seed: int
) -> list[EvaluationRow]:
    """The model, vote share and logistic regression on the report queries of each dataset."""
    probability = model.predict(snapshot, model.recall(snapshot, visible))
    predictors: list[Predictor] = [VoteShare(), Logistic(), _Made("attention", probability)]
    return evaluate(snapshot, predictors, budgets=[share], seeds=[seed])
