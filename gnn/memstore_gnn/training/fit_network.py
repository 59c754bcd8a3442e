r"""Train the graph network over the votes of a memory, and decide how far it is trusted.

The network corrects the log odds that votes give to an answer. It is trained on the labelled queries of each data set
whose answers have one right value, under masks of three kinds, so that it learns to use whatever a memory shows:

- rollouts: a random part of the policies, without the votes of the others;
- queries: the verdicts of some labelled queries are shown and help to estimate reliabilities; the network is trained on
  the others, whose own labels are hidden;
- data sets: a share of the masks shows no label at all, so that reliabilities come from agreement alone.

The labelled queries are cut into as many folds as the ensemble has members; a member is trained without one fold. Its
corrections of that fold are out-of-fold predictions. The trust is the factor with which they give the lowest loss. It
is 0 unless they also order the rollouts better, in AUC plus advantage. A stricter rule, by more than the standard error
over the folds, gave away gains: with full trust no set of docs/reward_quality.md loses more than .001.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from memstore.progress import Progress
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import share_logit
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import Visible
from memstore_gnn.features.dawid_skene import Ballots, fit_reliabilities
from memstore_gnn.metrics import advantage_soft, auc
from memstore_gnn.models.calibration import log_odds, sigmoid
from memstore_gnn.models.network import Correction, RewardNetwork
from memstore_gnn.models.newton import log_loss
from memstore_gnn.models.settings import MaskSettings, TrainSettings
from memstore_gnn.models.vote_graph import Voters, Votes, vote_graph
from memstore_gnn.scoring.ballots import ballots_by_dataset, verdict_of_answers

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

MASKS = MaskSettings()


class FittedCorrection(NamedTuple):
    """A correction, and by id of a labelled query the member of the ensemble that was trained without it."""

    correction: Correction
    member: Mapping[str, int]

    def without(self) -> dict[int, Correction]:
        """The correction by each member alone, and at -1 by all."""
        whole = self.correction
        alone = {number: replace(whole, networks=(network,)) for number, network in enumerate(whole.networks)}
        return {-1: whole, **(alone or dict.fromkeys(set(self.member.values()), whole))}


class _Labelled(NamedTuple):
    """Ballots of a data set, the verdict on each answer (NaN without one), and which queries train the network.

    ids: those of the labelled queries. counts: the trust in plain counts.
    """

    ballots: Ballots
    queries: int
    voters: int
    verdict: FloatVector
    labelled: IntVector
    ids: list[str]
    counts: float


@dataclass(frozen=True)
class _Example:
    """Labelled queries under one mask.

    Attributes:
        graph: their votes, on the device in training.
        votes: float64 [A], log odds of the answers by the votes, with the trust in plain counts.
        label: float64 [A], verdicts.
        count: float64 [A], rollouts with the answer.
        query, fold: int64 [A], the query of each answer, and its fold.
    """

    graph: HeteroData
    votes: FloatVector
    label: FloatVector
    count: FloatVector
    query: IntVector
    fold: IntVector


def fit_correction(
    snapshot: Snapshot,
    reward: FloatVector,
    settings: TrainSettings,
    *,
    seed: int,
    device: torch.device,
    progress: Progress,
    counts: Mapping[str, float] | None = None,
) -> FittedCorrection:
    """Train the ensemble; no networks if there is too little to learn from, or if held-out queries do not trust them.

    Args:
        reward: float64 [T], NaN for every label that training must not see.
        counts: the trust in plain counts of the votes, see `Correction`; the network corrects what both say.
    """
    chance, counts = np.random.default_rng(seed), counts or {}
    sets = _labelled_sets(snapshot, reward, counts)
    if not sets or settings.members < 2:
        progress.advance(settings.members * settings.epochs)
        return FittedCorrection(Correction(counts=counts), {})
    folds = [chance.permutation(len(one.labelled)) % settings.members for one in sets]
    masked = [_masked(*pair, chance) for _ in range(MASKS.masks) for pair in zip(sets, folds, strict=True)]
    masked = [replace(example, graph=example.graph.to(device)) for example in masked]  # once, not at each step
    networks, held_out, corrections = [], [], []
    for member in range(settings.members):
        network = _train(masked, member, settings, seed * 1000 + member, device, progress)
        networks.append(network)
        examples = [_held_out(*pair, member) for pair in zip(sets, folds, strict=True)]
        held_out += examples
        corrections += [Correction((network,), 1.0).of(example.graph) for example in examples]
    trust = _trust(held_out, corrections)
    without: dict[str, int] = {}
    for one, fold in zip(sets, folds, strict=True):
        without.update(zip(one.ids, fold.tolist(), strict=True))
    return FittedCorrection(Correction(tuple(networks) if trust else (), trust, counts), without)


def _labelled_sets(snapshot: Snapshot, reward: FloatVector, counts: Mapping[str, float]) -> list[_Labelled]:
    """Data sets with enough labelled queries that at least two policies answered."""
    verdict = verdict_of_answers(snapshot, verdicts_of(snapshot, Visible.of(snapshot, reward)))
    found = []
    for part in ballots_by_dataset(snapshot):
        own, ballots = verdict[part.answers], part.ballots
        policies = np.bincount(np.unique(ballots.group) // len(part.voters), minlength=len(part.queries))
        judged = np.zeros(len(part.queries), np.bool_)
        judged[ballots.query[np.isfinite(own)]] = True
        labelled = np.flatnonzero(judged & (policies > 1))
        if len(labelled) >= MASKS.min_labelled:
            ids = snapshot.queries["id"].take(pa.array(part.queries[labelled])).to_pylist()
            trust = counts.get(part.dataset, 0.0)
            found.append(_Labelled(ballots, len(part.queries), len(part.voters), own, labelled, ids, trust))
    return found


def _masked(data: _Labelled, fold: IntVector, chance: np.random.Generator) -> _Example:
    """Draw a mask: the policies that are kept, the queries that are read, and those whose verdicts are shown."""
    kept = chance.integers(min(MASKS.min_policies, data.voters), data.voters + 1)
    policies = chance.permutation(data.voters)[:kept]
    share = 0.0 if chance.random() < MASKS.label_free else chance.uniform(0.0, MASKS.shown)
    shown = chance.random(len(data.labelled)) < share
    read = np.zeros(data.queries, np.bool_)
    read[chance.permutation(data.queries)[: MASKS.max_queries]] = True
    if read[data.labelled].sum() < MASKS.min_labelled:  # few labels in a large data set
        read[data.labelled[: MASKS.max_queries]] = True
    return _example(data, fold, policies, shown, ~shown & read[data.labelled], read)


def _held_out(data: _Labelled, fold: IntVector, part: int) -> _Example:
    """The queries of one fold with all votes; the verdicts of the other folds are shown, as in scoring."""
    every = np.ones(data.queries, np.bool_)
    return _example(data, fold, np.arange(data.voters), fold != part, fold == part, every)


def _example(
    data: _Labelled,
    fold: IntVector,
    policies: IntVector,
    shown: BoolVector,
    target: BoolVector,
    read: BoolVector,
) -> _Example:
    """Estimate reliabilities under a mask, and build the graph of the target queries.

    Args:
        shown, target: bool [labelled], queries whose verdicts help, and those that are predicted.
        read: bool [Q], queries whose votes are read; the targets are among them.
    """
    ballots = data.ballots
    of_ballot = ballots.group // data.voters
    kept = np.isin(ballots.policy, policies) & read[of_ballot]
    part = Ballots(ballots.policy[kept], ballots.answer[kept], ballots.group[kept], ballots.query)
    visible = np.isin(ballots.query, data.labelled[shown])
    found = fit_reliabilities(part, np.where(visible, data.verdict, np.nan), data.voters)
    place = np.full(data.queries, -1)
    place[data.labelled[target]] = np.arange(int(target.sum()))
    rows = np.flatnonzero(place[of_ballot[kept]] >= 0)
    answer = part.answer[rows]
    names, local = np.unique(answer[answer >= 0], return_inverse=True)
    numbered = np.full(len(answer), -1)
    numbered[answer >= 0] = local
    voters = Voters.of(found, np.arange(data.voters))
    own_query = place[ballots.query[names]]
    query = place[of_ballot[kept][rows]]
    votes = Votes(part.policy[rows], query, numbered, part.share[rows], own_query, int(target.sum()))
    label = data.verdict[names]
    count = np.where(np.isfinite(label), votes.count, 0).astype(np.float64)
    by_reliability, size = log_odds(votes.posterior(voters)), np.bincount(query, minlength=votes.queries)[own_query]
    plain = share_logit(votes.count / size, size)
    return _Example(
        vote_graph(votes, voters),
        by_reliability + data.counts * (plain - by_reliability),
        np.nan_to_num(label),
        count,
        own_query,
        fold[target][own_query],
    )


def _train(
    examples: list[_Example],
    member: int,
    settings: TrainSettings,
    seed: int,
    device: torch.device,
    progress: Progress,
) -> RewardNetwork:
    """Train a network on all folds but one; each step reads one masked example."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = RewardNetwork(settings.network).to(device).train()
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, settings.epochs)
        order = np.random.default_rng(seed).integers(0, len(examples), settings.epochs)
        for position in order.tolist():
            loss = _loss(network, examples[position], member, device)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            progress.advance(1)
    return network.eval()


def _loss(network: RewardNetwork, example: _Example, member: int, device: torch.device) -> Tensor:
    """Cross-entropy of the corrected log odds, over the rollouts outside of the member's fold."""
    weight, votes, label = (
        torch.from_numpy(values.astype(np.float32)).to(device)
        for values in (example.count * (example.fold != member), example.votes, example.label)
    )
    logit = votes + network(example.graph)
    losses = functional.binary_cross_entropy_with_logits(logit, label, reduction="none")
    return (weight * losses).sum() / weight.sum().clamp(min=1.0)


def _trust(examples: list[_Example], corrections: list[FloatVector]) -> float:
    """Factor of the out-of-fold corrections; see the module's docstring."""
    votes, label, count = (
        np.concatenate([getattr(one, name) for one in examples]) for name in ("votes", "label", "count")
    )
    correction = np.concatenate(corrections)
    losses = {trust: log_loss(votes + trust * correction, label, count) for trust in (0.0, *MASKS.trusts)}
    best = min(losses, key=lambda trust: losses[trust])
    gains = [
        _utility(example, example.votes + best * own) - _utility(example, example.votes)
        for example, own in zip(examples, corrections, strict=True)
    ]
    known = np.array([gain for gain in gains if np.isfinite(gain)])
    return best if len(known) and known.mean() > 0.0 else 0.0


def _utility(example: _Example, logit: FloatVector) -> float:
    """AUC plus soft advantage of the rollouts, the value of an order for policy optimisation; NaN if undefined."""
    rows = np.repeat(np.arange(len(logit)), example.count.astype(np.int64))
    if not len(rows):
        return float("nan")
    probability = sigmoid(logit[rows])
    return auc(probability, example.label[rows]) + advantage_soft(probability, example.label[rows], example.query[rows])
