"""Train one member of the ensemble: a network that corrects the base's logits, with early stopping.

The best weights so far are kept as a copy. The untrained network, whose correction is zero, is the first candidate, so
a member that finds no improvement corrects nothing. A small labelled part is one batch, and gradients also flow through
the states of the labelled neighbours. A larger part is cut into batches of whole queries, which read the neighbours'
states from the beginning of the epoch without gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memstore.progress import Progress
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.models.design import query_weights
from memstore_gnn.models.inputs import LabelledPart
from memstore_gnn.models.network import GroupTensors, LabelledStates, NodeStates, RewardNetwork, whole_queries
from memstore_gnn.models.reward_model import labelled_states
from memstore_gnn.models.settings import StoppingSettings, TrainSettings

STOPPING = StoppingSettings()


@dataclass(frozen=True)
class TrainingFold:
    """Input of one member: all groups of the labelled part, and the roles of its N labelled rollouts.

    Attributes:
        rows: int64 [N], rows of the labelled rollouts in `groups`.
        label: float64 [N], in 0..1.
        base: float64 [N], out-of-fold logits of the base.
        train: bool [N], rollouts that contribute to the training loss.
        stop: bool [N], rollouts that contribute to the early-stopping loss. Rollouts in neither are held out.
    """

    groups: GroupTensors
    part: LabelledPart
    rows: IntVector
    label: FloatVector
    base: FloatVector
    train: BoolVector
    stop: BoolVector


class _Targets(NamedTuple):
    """Label, base logit and loss weights of each rollout, float32 [T]; weights are 0 outside the fold's roles."""

    label: Tensor
    base: Tensor
    train: Tensor
    stop: Tensor

    def loss(self, correction: Tensor, weight: Tensor, rows: Tensor | None = None) -> Tensor:
        label, base = (self.label, self.base) if rows is None else (self.label[rows], self.base[rows])
        losses = functional.binary_cross_entropy_with_logits(base + correction, label, reduction="none")
        return (weight * losses).sum() / weight.sum().clamp(min=1e-9)


def fit_network(
    fold: TrainingFold, settings: TrainSettings, *, seed: int, device: torch.device, progress: Progress
) -> tuple[RewardNetwork, FloatVector]:
    """Train a member and return it with its correction of each labelled rollout, float64 [N]."""
    targets = _targets(fold, device)
    blocks = whole_queries(fold.groups.query, settings.batch_rollouts)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = RewardNetwork(*fold.groups.widths, settings.network).to(device)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        correction = _run(network, optimiser, fold, targets, blocks, settings, progress)
    return network.eval(), correction[torch.from_numpy(fold.rows)].double().numpy()


def _run(
    network: RewardNetwork,
    optimiser: torch.optim.Optimizer,
    fold: TrainingFold,
    targets: _Targets,
    blocks: list[Tensor],
    settings: TrainSettings,
    progress: Progress,
) -> Tensor:
    """Train until the early-stopping loss stops falling; load the best weights and return their corrections [T]."""
    epochs = max(STOPPING.min_epochs, settings.epochs // len(blocks))
    correction = torch.zeros_like(targets.label)
    best, best_epoch = float(targets.loss(correction, targets.stop)), 0
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    reported = 0
    for epoch in range(1, epochs + 1):
        _epoch(network, optimiser, fold, targets, blocks)
        if epoch % STOPPING.check_every == 0 or epoch == epochs:
            now = _corrections(network, fold, blocks)
            loss = float(targets.loss(now, targets.stop))
            if loss < best - STOPPING.min_gain:
                best, best_epoch, correction = loss, epoch, now
                weights = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best_epoch > settings.patience:
                break
        done = epoch * settings.epochs // epochs
        progress.advance(done - reported)
        reported = done
    network.load_state_dict(weights)
    progress.advance(settings.epochs - reported)
    return correction.cpu()


def _epoch(
    network: RewardNetwork,
    optimiser: torch.optim.Optimizer,
    fold: TrainingFold,
    targets: _Targets,
    blocks: list[Tensor],
) -> None:
    """Train on all blocks once, in random order."""
    frozen = _labelled(network, fold, blocks) if len(blocks) > 1 else None
    network.train()
    for position in torch.randperm(len(blocks)).tolist():
        rows = blocks[position]
        if frozen is None:
            states = network.encode(fold.groups)
            labelled = labelled_states(fold.part, states, states.thinking.device)
            loss = targets.loss(network.correct(fold.groups, states, labelled), targets.train)
        else:
            block = fold.groups.take(rows)
            loss = targets.loss(network.correct(block, network.encode(block), frozen), targets.train[rows], rows)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


@torch.no_grad()
def _labelled(network: RewardNetwork, fold: TrainingFold, blocks: list[Tensor]) -> LabelledStates:
    """States of the labelled nodes under the current weights, without gradients."""
    network.eval()
    groups = fold.groups
    thinking = query = groups.features.new_zeros(0)
    for rows in blocks:
        states = network.encode(groups.take(rows))
        if not len(thinking):
            thinking = states.thinking.new_zeros(len(groups.features), states.thinking.shape[1])
            query = states.query.new_zeros(len(groups.query_x), states.query.shape[1])
        thinking[rows] = states.thinking
        query[torch.unique(groups.query[rows])] = states.query
    return labelled_states(fold.part, NodeStates(thinking, query), thinking.device)


@torch.no_grad()
def _corrections(network: RewardNetwork, fold: TrainingFold, blocks: list[Tensor]) -> Tensor:
    """Corrections as in scoring, float32 [T]: without dropout, with every neighbour."""
    labelled = _labelled(network, fold, blocks)
    out = torch.zeros(len(fold.groups.features), device=fold.groups.features.device)
    for rows in blocks:
        block = fold.groups.take(rows)
        out[rows] = network.correct(block, network.encode(block), labelled)
    return out


def _targets(fold: TrainingFold, device: torch.device) -> _Targets:
    def scattered(values: np.ndarray) -> Tensor:
        full = torch.zeros(len(fold.groups.features), dtype=torch.float32)
        full[torch.from_numpy(fold.rows)] = torch.from_numpy(values.astype(np.float32))
        return full.to(device)

    weight = query_weights(fold.part.groups.query_of[fold.rows], STOPPING.query_weight)
    train, stop = scattered(weight * fold.train), scattered(weight * fold.stop)
    return _Targets(scattered(fold.label), scattered(fold.base), train, stop)
