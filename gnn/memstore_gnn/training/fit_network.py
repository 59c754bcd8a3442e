"""One member of the ensemble: a network that learns what the base leaves over, and stops before it learns noise.

The best weights so far are kept as a copy; the untrained network, which corrects nothing, is the first of them, so
a member that finds nothing stays silent. A small labelled part is one batch whose states carry gradients to the
neighbours as well; a larger one is cut into batches of whole queries that read neighbours from the epoch's start.
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
from memstore_gnn.models.calibration import query_weights
from memstore_gnn.models.inputs import LabelledPart
from memstore_gnn.models.network import GroupTensors, Memory, RewardNetwork, States, whole_queries
from memstore_gnn.models.reward_model import memory_of
from memstore_gnn.models.settings import TrainSettings

CHECK_EVERY = 3
"""Epochs between two looks at the held-back queries."""
GAIN = 1e-4
"""By how much the held-back loss must fall to count as better."""
LEAST_EPOCHS = 8


@dataclass(frozen=True)
class Lesson:
    """What a member learns from: all groups of the labelled part, and its N labelled rollouts.

    Attributes:
        rows: int64 [N], the labelled rollouts among all of `groups`.
        label: float64 [N].
        base: float64 [N], held-out logits that the network corrects.
        learn, stop: bool [N], rollouts to learn from, and those that only tell when to stop; the rest is not looked
            at, so that the member's opinion of it is an honest one.
    """

    groups: GroupTensors
    part: LabelledPart
    rows: IntVector
    label: FloatVector
    base: FloatVector
    learn: BoolVector
    stop: BoolVector


class _Targets(NamedTuple):
    """Per rollout of the part, float32 [T]: label, base logit, weight in training and in stopping (0 elsewhere)."""

    label: Tensor
    base: Tensor
    learn: Tensor
    stop: Tensor

    def loss(self, correction: Tensor, weight: Tensor, rows: Tensor | None = None) -> Tensor:
        label, base = (self.label, self.base) if rows is None else (self.label[rows], self.base[rows])
        losses = functional.binary_cross_entropy_with_logits(base + correction, label, reduction="none")
        return (weight * losses).sum() / weight.sum().clamp(min=1e-9)


def fit_network(
    lesson: Lesson, settings: TrainSettings, *, seed: int, device: torch.device, progress: Progress
) -> tuple[RewardNetwork, FloatVector]:
    """Train a member; return it with its correction of each labelled rollout, float64 [N]."""
    targets = _targets(lesson, device)
    blocks = whole_queries(lesson.groups.query, settings.batch_rollouts)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = RewardNetwork(*lesson.groups.widths, settings.network).to(device)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        correction = _run(network, optimiser, lesson, targets, blocks, settings, progress)
    return network.eval(), correction[torch.from_numpy(lesson.rows)].double().numpy()


def _run(
    network: RewardNetwork,
    optimiser: torch.optim.Optimizer,
    lesson: Lesson,
    targets: _Targets,
    blocks: list[Tensor],
    settings: TrainSettings,
    progress: Progress,
) -> Tensor:
    """Epochs until nothing gets better; leaves the best weights in the network and returns its corrections [T]."""
    epochs = max(LEAST_EPOCHS, settings.epochs // len(blocks))
    correction = torch.zeros_like(targets.label)
    best, best_epoch = float(targets.loss(correction, targets.stop)), 0
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    told = 0
    for epoch in range(1, epochs + 1):
        _epoch(network, optimiser, lesson, targets, blocks)
        if epoch % CHECK_EVERY == 0 or epoch == epochs:
            now = _corrections(network, lesson, blocks)
            loss = float(targets.loss(now, targets.stop))
            if loss < best - GAIN:
                best, best_epoch, correction = loss, epoch, now
                weights = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best_epoch > settings.patience:
                break
        told = _tell(progress, told, epoch * settings.epochs // epochs)
    network.load_state_dict(weights)
    _tell(progress, told, settings.epochs)
    return correction.cpu()


def _tell(progress: Progress, told: int, done: int) -> int:
    progress.advance(done - told)
    return done


def _epoch(
    network: RewardNetwork,
    optimiser: torch.optim.Optimizer,
    lesson: Lesson,
    targets: _Targets,
    blocks: list[Tensor],
) -> None:
    """One pass over all blocks, in random order."""
    frozen = _memory(network, lesson, blocks) if len(blocks) > 1 else None
    network.train()
    for position in torch.randperm(len(blocks)).tolist():
        rows = blocks[position]
        if frozen is None:
            states = network.encode(lesson.groups)
            memory = memory_of(lesson.part, states, states.thinking.device)
            loss = targets.loss(network.correct(lesson.groups, states, memory), targets.learn)
        else:
            block = lesson.groups.take(rows)
            loss = targets.loss(network.correct(block, network.encode(block), frozen), targets.learn[rows], rows)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


@torch.no_grad()
def _memory(network: RewardNetwork, lesson: Lesson, blocks: list[Tensor]) -> Memory:
    """The labelled nodes as the network reads them now, without gradients."""
    network.eval()
    groups = lesson.groups
    thinking = query = groups.features.new_zeros(0)
    for rows in blocks:
        states = network.encode(groups.take(rows))
        if not len(thinking):
            thinking = states.thinking.new_zeros(len(groups.features), states.thinking.shape[1])
            query = states.query.new_zeros(len(groups.query_x), states.query.shape[1])
        thinking[rows] = states.thinking
        query[torch.unique(groups.query[rows])] = states.query
    return memory_of(lesson.part, States(thinking, query), thinking.device)


@torch.no_grad()
def _corrections(network: RewardNetwork, lesson: Lesson, blocks: list[Tensor]) -> Tensor:
    """float32 [T], as in scoring: no dropout, every neighbour seen."""
    memory = _memory(network, lesson, blocks)
    out = torch.zeros(len(lesson.groups.features), device=lesson.groups.features.device)
    for rows in blocks:
        block = lesson.groups.take(rows)
        out[rows] = network.correct(block, network.encode(block), memory)
    return out


def _targets(lesson: Lesson, device: torch.device) -> _Targets:
    def spread(values: np.ndarray) -> Tensor:
        full = torch.zeros(len(lesson.groups.features), dtype=torch.float32)
        full[torch.from_numpy(lesson.rows)] = torch.from_numpy(values.astype(np.float32))
        return full.to(device)

    weight = query_weights(lesson.part.groups.query_of[lesson.rows])
    learn, stop = spread(weight * lesson.learn), spread(weight * lesson.stop)
    return _Targets(spread(lesson.label), spread(lesson.base), learn, stop)
