"""Fit a reward model to the labels of a memory.

Training data are the labelled queries that `memstore_gnn.data.splits` makes visible. The logistic base is fitted first;
its out-of-fold logits calibrate it. Then the graph network is trained on the votes of the memory, and trusted as far as
held-out queries show (`memstore_gnn.training.fit_network`). A vote model is fitted to the same labels. On a CPU the
result is deterministic for a seed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch

from memstore.errors import ModelError
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import Partition, query_of_thinkings
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import Visible
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
from memstore_gnn.models.inputs import LabelledPart, check_rewards, check_vectors, labelled_part, read_target, strata_of
from memstore_gnn.models.prior import SharedPrior
from memstore_gnn.models.reward_model import ModelCard, RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.models.vote_model import VOTES, fit_votes
from memstore_gnn.scoring.abstain import risk_bands
from memstore_gnn.scoring.other_policies import stored_votes
from memstore_gnn.training.fit_network import FittedCorrection, fit_correction
from memstore_gnn.training.held_out import HeldOut, hold_out, trust_in_counts


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
    domain = np.array([stratum.partition("/")[0] for stratum in strata_of(snapshot, free.groups)], dtype=object)
    chance = sigmoid(prior.logit(free, domain))
    votes = fit_votes(free.groups, chance, np.arange(len(domain)), VOTES.prior_query_weight)
    return RewardModel(card, base, Calibration(), votes)


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
    target = read_target(part.snapshot, part)
    fitted = fit_base(Scale.of([free.table]), part.free, target.near, target.strata, part.reward, seed)
    base, logit = fitted.base, Partition.of(part.groups.answer.cell[rows]).mean(fitted.held_out)
    calibration = fit_calibration(logit, label, query)
    strata = base.matching_strata([target.strata[row] for row in rows.tolist()])
    own = fit_stratum_calibrations(calibration, logit, label, query, strata)
    votes = fit_votes(part.groups, label, rows)

    def calibrate(logit: FloatVector, strata: list[str]) -> FloatVector:
        return stratum_logit(calibration, own, logit, base.matching_strata(strata))

    stored = stored_votes(snapshot, verdicts_of(snapshot, Visible.of(snapshot, reward)))
    held_out = hold_out(part, fitted, stored, calibrate, np.random.default_rng(seed))
    counts = trust_in_counts(held_out)
    progress.stage("train", settings.members * settings.epochs)
    found = fit_correction(snapshot, reward, settings, seed=seed, device=where, progress=progress, counts=counts)
    card = replace(_card(snapshot, part, settings, seed), risks=_risks(held_out, found))
    return RewardModel(card, base.calibrated(calibration, own), calibration, votes, found.correction)


def _risks(held_out: HeldOut, found: FittedCorrection) -> list[dict[str, float]]:
    """The risks of the bands of the model, with the stored votes as in scoring."""
    rows = held_out.labelled
    probability = held_out.scored(found.without(), found.member)
    return [one._asdict() for one in risk_bands(probability[rows], held_out.label[rows], held_out.query[rows])]


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
