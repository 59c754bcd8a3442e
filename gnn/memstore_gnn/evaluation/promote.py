"""Promotion: a model is put in use after a comparison with the one in use, on labels that neither has learnt from.

Fresh queries are those with ground truth now of which neither model has seen a label: the labels that came after the
training of both, and those that both trainings kept for their reports. For the comparison these labels are hidden, so
each model scores as it would have before they were known. Figures are paired: both on the same rollouts, and the
standard error of a difference from drawing queries with replacement.

A model is not promoted where it is worse (AUC, advantage, or a calibration error beyond `CALIBRATED`, each by more
than two standard errors) or where there are too few fresh queries to tell, unless that is forced. Nothing but the
name of the model in use is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.splits import labelled_queries
from memstore_gnn.metrics import advantage_soft, auc, ece
from memstore_gnn.models.checkpoint import load_origin
from memstore_gnn.models.origin import Origin, digests
from memstore_gnn.models.registry import (
    list_models,
    model_folder,
    model_in_use,
    model_nodes,
    promoted_model,
    record_promotion,
)
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.scoring.score import memory_target
from memstore_gnn.training.device_memory import device_memory
from memstore_gnn.verbs import open_model, visible_to

LEAST = 20
"""Fresh queries without which nothing can be said."""
CALIBRATED = 0.05
"""A calibration error up to here is no reason against a model."""
DRAWS = 200
ERRORS = 2.0
"""Standard errors that a difference must have to count."""

METRICS: Mapping[str, Callable[[FloatVector, FloatVector, IntVector], float]] = {
    "auc": lambda probability, label, query: auc(probability, label),
    "advantage_soft": advantage_soft,
    "ece": lambda probability, label, query: ece(probability, label),
}
BETTER, EQUAL, WORSE, TOO_FEW, ALONE = "better", "equal", "worse", "too few", "alone"


@dataclass(frozen=True)
class Comparison:
    """One metric of both models on the fresh rollouts; None where it cannot be had."""

    metric: str
    candidate: float | None
    current: float | None
    difference: float | None
    """Candidate less current."""
    error: float | None
    """Standard error of the difference."""


@dataclass(frozen=True)
class Promotion:
    """The report on a candidate, and what came of it."""

    candidate: str
    current: str | None
    """The model it was compared with; None where there is no other."""
    fresh_queries: int
    fresh_rollouts: int
    after_training: int
    """Fresh queries whose labels came after both models were trained."""
    comparison: tuple[Comparison, ...]
    verdict: str
    """`better`, `equal` (no difference beyond noise), `worse`, `too few` fresh queries, `alone` (no other model)."""
    promoted: bool

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints."""
        return asdict(self)

    def reason(self) -> str:
        """The verdict as a sentence's beginning."""
        if self.verdict == ALONE:
            return f"{self.candidate} has no other model to be compared with"
        if self.verdict == TOO_FEW:
            return (
                f"{self.fresh_queries} labelled queries are known to be new to both {self.candidate} and "
                f"{self.current}, too few to tell the models apart"
            )
        said = {BETTER: "is better than", EQUAL: "is no worse than", WORSE: "is worse than"}[self.verdict]
        return f"{self.candidate} {said} {self.current} on {self.fresh_queries} fresh queries"


def promote_model(
    memory: Memory,
    model: str | None = None,
    *,
    force: bool = False,
    least: int = LEAST,
    device: str | None = None,
    progress: Progress | None = None,
) -> Promotion:
    """Compare a model with the one in use on fresh labels, and put it in use if it is not worse.

    Args:
        model: id of one of the memory's models; None takes the newest.
        force: put it in use whatever the comparison says.
        least: fresh queries that are enough to tell.

    Raises:
        ModelError: no such model, or one whose files cannot be read or do not fit this memory.
    """
    progress = progress or Silent()
    if model is None:
        model = next((entry.model for entry in list_models(memory)), None)
    candidate = open_model(memory, model, device)
    model = candidate.card.id
    current = _other(memory, model)
    if current is None:
        report = Promotion(model, None, 0, 0, 0, (), ALONE, False)
    else:
        report = compare(memory, candidate, open_model(memory, current, device), least=least, progress=progress)
    promoted = force or report.verdict in (BETTER, EQUAL, ALONE)
    if promoted and promoted_model(memory) != model:
        record_promotion(memory, model)
    return Promotion(**{**vars(report), "promoted": promoted})


def _other(memory: Memory, model: str) -> str | None:
    """The model in use; where that is the candidate, the newest other one. Only one that has its files here."""
    others = [node for node in model_nodes(memory) if node["id"] != model and (memory.folder / node["path"]).is_dir()]
    return model_in_use(memory, others)


def compare(
    memory: Memory, candidate: RewardModel, current: RewardModel, *, least: int = LEAST, progress: Progress
) -> Promotion:
    """The report; nothing is promoted."""
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    origins = [load_origin(model_folder(memory, each.card.id)) for each in (candidate, current)]
    fresh = fresh_queries(snapshot, [origin for origin in origins if origin is not None])
    label = rewards_of(snapshot)
    rows = np.isfinite(label) & fresh.queries[query_of_thinkings(snapshot)]
    queries = int(fresh.queries.sum())
    progress.stage("score fresh rollouts with both")
    known = None not in origins and queries >= least and len(np.unique(label[rows] > 0.5)) == 2
    comparison: tuple[Comparison, ...] = ()
    if known:
        with device_memory(f"scoring {int(rows.sum()):,} rollouts"):
            scored = [_probability(each, snapshot, rows) for each in (candidate, current)]
        comparison = _compare(scored[0], scored[1], label[rows], query_of_thinkings(snapshot)[rows])
    verdict = verdict_of(comparison) if known else TOO_FEW
    after = int(fresh.after.sum())
    ids = candidate.card.id, current.card.id
    return Promotion(*ids, queries, int(rows.sum()), after, comparison, verdict, False)


class Fresh(NamedTuple):
    """bool [Q] both: queries of which no model has seen a label, and those that had none when they were trained."""

    queries: BoolVector
    after: BoolVector


def fresh_queries(snapshot: Snapshot, origins: list[Origin]) -> Fresh:
    """The labelled queries that are new to all of these models."""
    own = digests(snapshot.queries["id"].to_pylist())
    labelled = labelled_queries(snapshot)
    learnt, known = np.zeros(len(own), np.bool_), np.zeros(len(own), np.bool_)
    for origin in origins:
        learnt |= np.isin(own, origin.learnt)
        known |= np.isin(own, origin.labelled)
    return Fresh(labelled & ~learnt, labelled & ~known)


def _probability(model: RewardModel, snapshot: Snapshot, rows: BoolVector) -> FloatVector:
    """What a model says of these rollouts with their queries' labels hidden, float64 [rows]."""
    query = query_of_thinkings(snapshot)
    hidden = np.isin(query, query[rows])
    reward = np.where(hidden, np.nan, visible_to(model, snapshot))
    target = memory_target(snapshot, rows)
    recollection = model.recall(snapshot, reward)
    place = {name: position for position, name in enumerate(target.thinkings["id"].to_pylist())}
    probability = model.predict(target, recollection)
    return probability[[place[name] for name in snapshot.thinkings["id"].to_numpy()[rows].tolist()]]


def _compare(
    candidate: FloatVector, current: FloatVector, label: FloatVector, query: IntVector
) -> tuple[Comparison, ...]:
    """All metrics on all rollouts, and the errors of their differences over draws of queries."""
    whole = np.arange(len(label))
    draws = _draws(query)
    found = []
    for name, measure in METRICS.items():
        of_rows = [[measure(p[r], label[r], query[r]) for p in (candidate, current)] for r in (whole, *draws)]
        values = np.array(of_rows)
        differences = values[:, 0] - values[:, 1]
        error = float(np.nanstd(differences[1:], ddof=1))
        found.append(Comparison(name, *map(_known, (values[0, 0], values[0, 1], differences[0], error))))
    return tuple(found)


def _draws(query: IntVector) -> list[IntVector]:
    """Rows of as many queries as there are, drawn with replacement, `DRAWS` times."""
    order = np.argsort(query, kind="stable")
    _, starts = np.unique(query[order], return_index=True)
    members = np.split(order, starts[1:])
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(members), size=(DRAWS, len(members)))
    return [np.concatenate([members[one] for one in draw]) for draw in chosen]


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def verdict_of(comparison: tuple[Comparison, ...]) -> str:
    """`better`, `worse` or `equal`, by the rule of the module."""
    better = worse = False
    for one in comparison:
        if one.difference is None or one.error is None or one.candidate is None:
            continue
        gain = -one.difference if one.metric == "ece" else one.difference
        worse |= gain < -ERRORS * one.error and (one.metric != "ece" or one.candidate > CALIBRATED)
        better |= gain > ERRORS * one.error and one.metric != "ece"
    return WORSE if worse else BETTER if better else EQUAL
