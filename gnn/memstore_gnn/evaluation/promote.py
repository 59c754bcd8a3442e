"""Promotion: compare a model with the one in use on labels that neither was trained on, and put it in use.

Fresh queries have ground truth that neither model has seen: labels that were added after both trainings, and labels
that both trainings kept for their reports. The comparison hides these labels, so that each model scores as it would
have before they were known. Both models are measured on the same rollouts, and the standard error of a difference is
bootstrapped over queries.

The metric `gap` is that of the gauge of a training (`memstore_gnn.monitoring.residual_gap`): what the probability says
beyond the votes, for right less wrong rollouts, in the groups whose majority is wrong. A group is what one policy
sampled together for a query. With fewer than `GAP_GROUPS` such groups it has no error and does not count.

A model is not promoted if it is worse (in AUC, advantage, gap, or a calibration error above `CALIBRATED`, by more than
two standard errors) or if there are too few fresh queries, unless the promotion is forced. Only the name of the model
in use is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.snapshots.aliases import ids_of_schema_1
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.splits import labelled_queries
from memstore_gnn.evaluation.memory_gaps import QueryGap, residual_gaps
from memstore_gnn.metrics import advantage_soft, auc, ece
from memstore_gnn.models.checkpoint import load_origin
from memstore_gnn.models.device import device_memory
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
from memstore_gnn.models.stored_model import open_model, visible_to
from memstore_gnn.monitoring.residual_gap import interval
from memstore_gnn.scoring.score import predict_memory

LEAST = 20
"""Fresh queries that a comparison needs."""
CALIBRATED = 0.05
"""Calibration error (ECE) up to which a model is not rejected for its calibration."""
GAP_GROUPS = 20
"""Groups with a wrong majority that a comparison of gaps needs."""
DRAWS = 200
"""Bootstrap samples of the queries."""
ERRORS = 2.0
"""Standard errors beyond which a difference counts."""

METRICS: Mapping[str, Callable[[FloatVector, FloatVector, IntVector], float]] = {
    "auc": lambda probability, label, query: auc(probability, label),
    "advantage_soft": advantage_soft,
    "ece": lambda probability, label, query: ece(probability, label),
}
BETTER, EQUAL, WORSE, TOO_FEW, ALONE = "better", "equal", "worse", "too few", "alone"


@dataclass(frozen=True)
class Comparison:
    """A metric of both models on the fresh rollouts; None if it is undefined."""

    metric: str
    candidate: float | None
    current: float | None
    difference: float | None
    """Candidate minus current."""
    error: float | None
    """Standard error of the difference."""


@dataclass(frozen=True)
class Promotion:
    """Comparison of a candidate with the model in use, and whether it was promoted."""

    candidate: str
    current: str | None
    """The model it was compared with; None if there is no other model."""
    fresh_queries: int
    fresh_rollouts: int
    after_training: int
    """Fresh queries whose labels were added after both models were trained."""
    comparison: tuple[Comparison, ...]
    verdict: str
    """`better`, `equal` (no significant difference), `worse`, `too few` fresh queries, or `alone` (no other model)."""
    promoted: bool

    def as_json(self) -> dict[str, Any]:
        """The result as the JSON that `memstore promote` prints."""
        return asdict(self)

    def reason(self) -> str:
        """The verdict as the beginning of a sentence."""
        if self.verdict == ALONE:
            return f"{self.candidate} has no other model to compare it with"
        if self.verdict == TOO_FEW:
            return (
                f"only {self.fresh_queries} labelled queries are known to be new to both {self.candidate} and "
                f"{self.current}, too few to compare the models"
            )
        relation = {BETTER: "is better than", EQUAL: "is no worse than", WORSE: "is worse than"}[self.verdict]
        return f"{self.candidate} {relation} {self.current} on {self.fresh_queries} fresh queries"


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
        force: put it in use regardless of the comparison.
        least: fresh queries that the comparison needs.
        device: `cpu` or `cuda`; None takes a GPU if there is one.

    Raises:
        ModelError: the memory has no such model, or its files cannot be read or do not fit this memory.
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
    """The model in use, or the newest other one if the candidate is in use; only models with files on this machine."""
    others = [node for node in model_nodes(memory) if node["id"] != model and (memory.folder / node["path"]).is_dir()]
    return model_in_use(memory, others)


def compare(
    memory: Memory, candidate: RewardModel, current: RewardModel, *, least: int = LEAST, progress: Progress
) -> Promotion:
    """Compare two models without promoting one."""
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
            gaps = [
                residual_gaps(each, snapshot, rows, p) for each, p in zip((candidate, current), scored, strict=True)
            ]
        comparison = _compare(scored[0], scored[1], label[rows], query_of_thinkings(snapshot)[rows])
        comparison += (_compare_gaps(gaps[0], gaps[1]),)
    verdict = verdict_of(comparison) if known else TOO_FEW
    after = int(fresh.after.sum())
    ids = candidate.card.id, current.card.id
    return Promotion(*ids, queries, int(rows.sum()), after, comparison, verdict, False)


class Fresh(NamedTuple):
    """Labelled queries that are new to some models, bool [Q].

    queries: no model has seen a label. after: without a label when the models were trained.
    """

    queries: BoolVector
    after: BoolVector


def fresh_queries(snapshot: Snapshot, origins: list[Origin]) -> Fresh:
    """Find the labelled queries that are new to all of these models, also to models that were trained on schema 1."""
    own, named = digests(snapshot.queries["id"].to_pylist()), snapshot.edges["in"].source
    before = digests(ids_of_schema_1(snapshot))
    labelled = labelled_queries(snapshot)
    learnt, known = np.zeros(len(own), np.bool_), np.zeros(len(own), np.bool_)
    for origin in origins:
        for mask, seen in ((learnt, origin.learnt), (known, origin.labelled)):
            mask |= np.isin(own, seen)
            mask[named[np.isin(before, seen)]] = True
    return Fresh(labelled & ~learnt, labelled & ~known)


def _probability(model: RewardModel, snapshot: Snapshot, rows: BoolVector) -> FloatVector:
    """Probabilities of these rollouts with the labels of their queries hidden, float64 [rows]."""
    query = query_of_thinkings(snapshot)
    hidden = np.isin(query, query[rows])
    reward = np.where(hidden, np.nan, visible_to(model, snapshot))
    return predict_memory(model, snapshot, reward, rows)


def _compare(
    candidate: FloatVector, current: FloatVector, label: FloatVector, query: IntVector
) -> tuple[Comparison, ...]:
    """Metrics on all rollouts, and the bootstrapped standard errors of their differences."""
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


def _compare_gaps(candidate: list[QueryGap], current: list[QueryGap]) -> Comparison:
    """Mean gap of both models in the groups whose majority is wrong."""
    pairs = [(ours, theirs) for ours, theirs in zip(candidate, current, strict=True) if ours.gap.majority_wrong]
    gaps = np.array([[ours.gap.gap, theirs.gap.gap] for ours, theirs in pairs]).reshape(-1, 2)
    difference = interval(gaps[:, 0] - gaps[:, 1], np.array([ours.query for ours, _ in pairs], np.int64))
    means = gaps.mean(0) if len(gaps) else (math.nan, math.nan)
    error = difference.error if len(gaps) >= GAP_GROUPS else math.nan
    return Comparison("gap", *map(_known, (means[0], means[1], difference.mean, error)))


def _draws(query: IntVector) -> list[IntVector]:
    """Bootstrap samples: rows of as many queries as there are, drawn with replacement."""
    order = np.argsort(query, kind="stable")
    _, starts = np.unique(query[order], return_index=True)
    members = np.split(order, starts[1:])
    rng = np.random.default_rng(0)
    chosen = rng.integers(len(members), size=(DRAWS, len(members)))
    return [np.concatenate([members[one] for one in draw]) for draw in chosen]


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def verdict_of(comparison: tuple[Comparison, ...]) -> str:
    """Verdict `better`, `worse` or `equal` by the rule in the module's docstring."""
    better = worse = False
    for one in comparison:
        if one.difference is None or one.error is None or one.candidate is None:
            continue
        gain = -one.difference if one.metric == "ece" else one.difference
        worse |= gain < -ERRORS * one.error and (one.metric != "ece" or one.candidate > CALIBRATED)
        better |= gain > ERRORS * one.error and one.metric != "ece"
    return WORSE if worse else BETTER if better else EQUAL
