"""Fit a reward model to the labels of a memory.

Training data are the labelled queries that `memstore_gnn.data.splits` makes visible. They are cut into as many folds as
the ensemble has members. Member i holds out fold i, uses fold i + 1 for early stopping and trains on the rest. Its
predictions for fold i are therefore out-of-fold, and they decide whether the networks are used and how the model is
calibrated. Every label is trained on, and every choice is made on queries that the chooser did not see.

The logistic base is fitted first. The networks are fitted to its out-of-fold logits and start at a correction of zero.
On a CPU the result is deterministic for a seed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch

from memstore.errors import ModelError
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import Partition, query_of_thinkings
from memstore_gnn.features.assemble import label_free
from memstore_gnn.models.base import fit_base
from memstore_gnn.models.calibration import (
    Calibration,
    fit_calibration,
    fit_stratum_calibrations,
    sigmoid,
    stratum_logit,
)
from memstore_gnn.models.design import Scale
from memstore_gnn.models.device import one_core, pick_device
from memstore_gnn.models.inputs import (
    LabelledPart,
    check_rewards,
    check_vectors,
    fit_projection,
    group_tensors,
    labelled_part,
    read_target,
)
from memstore_gnn.models.network import GroupTensors, RewardNetwork
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.reward_model import ModelCard, RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.scoring.abstain import risk_bands
from memstore_gnn.training.fit_network import TrainingFold, fit_network

MIN_FOLDS = 3
"""Folds needed to train networks: one to train on, one to stop on and one held out."""


@one_core()
def fit_prior(
    snapshot: Snapshot,
    prior: SharedPrior,
    *,
    seed: int = 0,
    settings: TrainSettings | None = None,
    device: str | torch.device | None = None,
) -> RewardModel:
    """Make a reward model for a memory without labels, from a prior of other data sets and the memory's own votes."""
    settings = settings or TrainSettings()
    check_vectors(snapshot)
    free = label_free(snapshot)
    part = labelled_part(snapshot, np.full(snapshot.thinkings.num_rows, np.nan), free.reliability)
    target = read_target(part.snapshot, part)
    base = fit_base(prior.scale, part.free, target.near, target.strata, part.reward, seed, prior).base
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
    """Fit a reward model to the given labels, without evaluating it.

    Args:
        reward: float64 [T], NaN for every label that training must not see.
        device: `cpu`, `cuda` or a torch device; None takes a GPU if there is one.

    Raises:
        ModelError: no label is visible, or all visible labels have one class or belong to one query.
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
    base, held_out = fit_base(Scale.of([free.table]), part.free, target.near, target.strata, part.reward, seed)
    held_out = Partition.of(part.groups.answer.cell[rows]).mean(held_out)
    projection = fit_projection(part, settings.network.projection)
    groups = group_tensors(target, base.scale, base.near, projection, where)
    progress.stage("train", settings.members * settings.epochs)
    networks, correction = _fit_ensemble(groups, part, held_out, fold, settings, seed, where, progress)
    calibration = fit_calibration(held_out, correction, label, query, fold)
    strata = base.matching_strata([target.strata[row] for row in rows.tolist()])
    own = fit_stratum_calibrations(calibration, held_out, correction, label, query, strata)
    risks = risk_bands(sigmoid(stratum_logit(calibration, own, held_out, correction, strata)), label, query)
    card = replace(_card(snapshot, part, settings, seed), risks=[one._asdict() for one in risks])
    return RewardModel(card, base.calibrated(calibration, own), projection, networks, calibration, where)


class _Ensemble(NamedTuple):
    networks: tuple[RewardNetwork, ...]
    correction: FloatVector
    """Out-of-fold corrections of the labelled rollouts, float64 [N]."""


def _fit_ensemble(
    groups: GroupTensors,
    part: LabelledPart,
    base: FloatVector,
    fold: IntVector,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> _Ensemble:
    """Train one network a fold; no networks and a correction of zero below `MIN_FOLDS` folds."""
    rows = part.labelled
    networks, correction = [], np.zeros(len(rows))
    count = int(fold.max()) + 1
    for member in range(count if count >= MIN_FOLDS else 0):
        held_out, stop = fold == member, fold == (member + 1) % count
        training_fold = TrainingFold(groups, part, rows, part.reward[rows], base, ~(held_out | stop), stop)
        network, predicted = fit_network(
            training_fold, settings, seed=seed * 1000 + member, device=device, progress=progress
        )
        networks.append(network)
        correction[held_out] = predicted[held_out]
    return _Ensemble(tuple(networks), correction)


def _check_labels(snapshot: Snapshot, reward: FloatVector) -> None:
    known = np.isfinite(reward)
    label, query = reward[known], query_of_thinkings(snapshot)[known]
    if not len(label):
        raise ModelError("training can see no label; label some rollouts or raise the budget")
    if len(np.unique(query)) < 2:
        raise ModelError("only one query is labelled, and a reward model needs at least two; label more queries")
    if len(np.unique(label > 0.5)) < 2:
        kind = "right" if label[0] > 0.5 else "wrong"
        raise ModelError(
            f"all {len(label)} visible labels are {kind}, and training needs both classes; label more rollouts"
        )


def _folds(query: IntVector, members: int, seed: int) -> IntVector:
    """Fold of each row, int64 [N], equal for all rows of a query; no fold is empty."""
    _, cell = np.unique(query, return_inverse=True)
    count = int(cell.max()) + 1
    fold = np.empty(count, np.int64)
    fold[np.random.default_rng(seed).permutation(count)] = np.arange(count) % min(members, count)
    return fold[cell]


def model_digest(
    snapshot: str, embedder: str, settings: TrainSettings, seed: int, code_version: str, reward: FloatVector
) -> str:
    """Digest of everything a model is made from, 16 hex digits: training again on the same input gives the same id.

    The digest covers `repr(settings)`. A field that is added to or renamed in `TrainSettings` therefore changes the id
    of every model, and must be declared with `repr=False` if it keeps its default.
    """
    digest = hashlib.blake2b(digest_size=8)
    for entry in (snapshot, embedder, settings, seed, code_version):
        digest.update(repr(entry).encode())
    digest.update(reward.tobytes())
    return digest.hexdigest()


def _card(snapshot: Snapshot, part: LabelledPart, settings: TrainSettings, seed: int, prefix: str = "m-") -> ModelCard:
    manifest, code = snapshot.manifest, version("memstore")
    return ModelCard(
        id=prefix + model_digest(manifest.id, manifest.embedder, settings, seed, code, part.reward),
        snapshot=manifest.id,
        embedder=manifest.embedder,
        splitter=manifest.splitter,
        settings=settings,
        budget=None,
        seed=seed,
        created_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        code_version=code,
        torch_version=torch.__version__,
    )
