"""Predictions of labelled rollouts by what was not fitted to their queries, as `memstore score` combines them.

The base without the fold of a query predicts its groups, each alone. The stored votes on the query come in as in
scoring (`memstore_gnn.scoring.other_policies`): the reliabilities that weigh them are estimated without its verdicts.
From these predictions, training chooses the trust in plain counts of the votes, and measures the risks of the bands in
which a model abstains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import Partition, query_of_thinkings
from memstore_gnn.data.hetero import some_rollouts
from memstore_gnn.data.separate import separate_groups
from memstore_gnn.metrics import advantage_soft, auc
from memstore_gnn.models.base import FittedBase
from memstore_gnn.models.calibration import log_odds, sigmoid
from memstore_gnn.models.inputs import LabelledPart, read_target
from memstore_gnn.models.network import Correction
from memstore_gnn.models.newton import log_loss
from memstore_gnn.models.settings import MaskSettings
from memstore_gnn.scoring.other_policies import StoredVotes
from memstore_gnn.scoring.score import memory_groups

MOST = 4096
"""Rollouts that are predicted, about; queries beyond are left out, at random."""
MASKS = MaskSettings()

Calibrate = Callable[[FloatVector, list[str]], FloatVector]
"""Calibrated logits, float64 [T], of those of the base and the rollouts' strata."""


class HeldOut(NamedTuple):
    """Some labelled queries of a memory with all of their rollouts.

    Attributes:
        group: int64 [T], group of each rollout.
        alone: float64 [T], probability by the group alone.
        label: float64 [T], NaN without one.
        query: int64 [T], query of each rollout.
        ids: [T], its id.
        stored: the votes of the whole memory.
    """

    snapshot: Snapshot
    group: IntVector
    alone: FloatVector
    label: FloatVector
    query: IntVector
    ids: list[str]
    stored: StoredVotes

    @property
    def labelled(self) -> BoolVector:
        """Rollouts with a label, bool [T]."""
        return np.isfinite(self.label)

    def scored(self, corrections: Mapping[int, Correction], member: Mapping[str, int]) -> FloatVector:
        """Probability of each rollout with the stored votes, float64 [T].

        Args:
            corrections: by number.
            member: by id of a query, the number of the correction that was not fitted to it; -1 for other queries.
        """
        wanted = np.array([member.get(query, -1) for query in self.ids], np.int64)
        found = np.zeros(len(wanted))
        for number in np.unique(wanted).tolist():
            rows = wanted == number
            found[rows] = self.stored.adjust(self.alone, self.snapshot, corrections[number], self.group)[rows]
        return found


def hold_out(
    part: LabelledPart, fitted: FittedBase, stored: StoredVotes, calibrate: Calibrate, chance: np.random.Generator
) -> HeldOut:
    """Predict groups of the labelled queries, each by the base that was fitted without the query's fold."""
    order = chance.permutation(part.snapshot.queries.num_rows)
    size = np.bincount(part.groups.query_of, minlength=len(order))
    drawn = np.zeros(len(order), np.bool_)
    drawn[order[np.cumsum(size[order]) - size[order] < MOST]] = True
    rows = drawn[part.groups.query_of]
    snapshot = part.snapshot if rows.all() else some_rollouts(part.snapshot, rows)
    group = memory_groups(snapshot, stored)
    target = read_target(separate_groups(snapshot, group), part)
    fold = _fold_of_queries(part, fitted)[part.groups.query_of[rows]]
    logit = np.zeros(len(group))
    for number, base in enumerate(fitted.folds):
        own = fold == number
        if own.any():
            logit[own] = base.logit(target.free, target.near, target.strata)[own]
    logit = target.free.groups.answer.mean(logit)
    query = query_of_thinkings(snapshot)
    ids = snapshot.queries["id"].to_pylist()
    alone = sigmoid(calibrate(logit, target.strata))
    return HeldOut(snapshot, group, alone, part.reward[rows], query, [ids[row] for row in query.tolist()], stored)


def _fold_of_queries(part: LabelledPart, fitted: FittedBase) -> IntVector:
    """Fold of each query of the labelled part, int64 [Q]."""
    fold = np.zeros(part.snapshot.queries.num_rows, np.int64)
    fold[part.groups.query_of[part.labelled]] = fitted.fold
    return fold


def trust_in_counts(held_out: HeldOut) -> dict[str, float]:
    """By data set, the share of the votes' log odds by plain counts that has the lowest loss; see `Correction`.

    It stays 0, and is left out, where the rollouts are ordered worse, in AUC plus advantage, and for a data set with
    fewer labelled queries than the network needs.
    """
    stored, labelled = held_out.stored, held_out.labelled
    names = np.array([stored.dataset[query] if query in stored.rows else "" for query in held_out.ids], object)
    tried: dict[float, FloatVector] = {}
    for trust in (0.0, *MASKS.trusts):
        counts = dict.fromkeys(stored.reliability, trust)
        tried[trust] = stored.adjust(held_out.alone, held_out.snapshot, Correction(counts=counts), held_out.group)
    found = {}
    for name in sorted(set(names) - {""}):
        rows = labelled & (names == name)
        if len(np.unique(held_out.query[rows])) >= MASKS.min_labelled:
            weight, label = 1.0 / Partition.of(held_out.query[rows]).size, held_out.label[rows]
            losses = {trust: log_loss(log_odds(p[rows]), label, weight) for trust, p in tried.items()}
            best = min(losses, key=lambda trust: losses[trust])
            value = [
                auc(p[rows], label) + advantage_soft(p[rows], label, held_out.query[rows])
                for p in (tried[0.0], tried[best])
            ]
            if best and value[1] >= value[0]:
                found[name] = best
    return found
