"""Evaluation protocol: hide labels, predict them and measure the predictions, over label budgets and seeds.

`hide_labels` is the only place that hides labels. A predictor receives a snapshot without any reward and without
anything that reveals one, and the labels of the budget as a separate vector with NaN for all other rollouts.

A predictor covers all data sets of a memory at once; metrics are reported for each data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from memstore.errors import InputError, ModelError
from memstore.graph.protocol import EdgeTable
from memstore.graph.verdicts import ANSWER_LABELS, with_verdicts
from memstore.snapshots.aliases import in_dataset
from memstore.snapshots.snapshot import Snapshot
from memstore.snapshots.take import EDGE_NAMES
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of, visible_rewards
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.data.splits import Split
from memstore_gnn.data.visibility import Visibility, visible_split
from memstore_gnn.metrics import Metrics, measure
from memstore_schema.columns import EdgeType

BUDGETS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Default label budgets: shares of each data set's labelled queries."""
SEEDS = (0, 1, 2)
"""Default seeds of the splits."""

HIDDEN_COLUMNS = ("reward", "reward_source", "metadata", "run", "step", "sample_index", "created_at")
"""Columns of rollouts that are hidden: labels, and columns that can reveal the policy or the order of a file."""
GROUP_COLUMNS = ("run", "policy", "step")
"""Columns that are equal for the rollouts of a query that were sampled together."""
VISIBLE_EDGES = ("generates", "in", "leads_to", "query_similar", "thinking_similar")
"""Edge types that are not hidden."""
DERIVED_EDGES = frozenset(
    name
    for name, (edge, _, _) in EDGE_NAMES.items()
    if edge in (EdgeType.SCORED_BY, EdgeType.INFLUENCED_BY, EdgeType.RELIABLE_IN)
)
"""Edge types that were made with the help of ground truth."""

Progress = Callable[[str], None]
"""Callback with a line about the predictor, budget and seed that were evaluated."""


@dataclass(frozen=True, repr=False)
class EvaluationRow:
    """Metrics of a predictor on the report queries of one data set, for one label budget and seed."""

    dataset: str
    predictor: str
    budget: float
    """Share of the data set's labelled queries whose labels the predictor saw."""
    seed: int
    queries: int
    """Number of report queries."""
    rollouts: int
    """Number of their labelled rollouts."""
    auc: float
    """The metrics are those of `memstore_gnn.metrics`; NaN if a metric is undefined."""
    accuracy: float
    pair_accuracy: float
    advantage_hard: float
    advantage_soft: float
    ece: float
    brier: float
    aurc: float

    def to_json(self) -> dict[str, Any]:
        """The row as a JSON object; an undefined metric is null."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    def __repr__(self) -> str:
        size = f"{self.queries:,} queries, {self.rollouts:,} rollouts"
        metrics = ", ".join(f"{name}={getattr(self, name):.3f}" for name in ("auc", "advantage_soft", "ece"))
        cell = f"{self.predictor!r} on {self.dataset!r}, budget={self.budget:.0%}, seed={self.seed}"
        return f"EvaluationRow({cell}: {metrics}; {size})"


class SummaryRow(NamedTuple):
    """Mean and standard error of a metric over seeds; the error is NaN for a single seed."""

    dataset: str
    predictor: str
    budget: float
    metric: str
    mean: float
    error: float
    seeds: int


class Prediction(NamedTuple):
    """A row and the predictions behind it.

    Attributes:
        row: metrics of the predictions.
        probability, reward: float64 [rollouts].
        query: int64 [rollouts], query of each rollout.
    """

    row: EvaluationRow
    probability: FloatVector
    reward: FloatVector
    query: IntVector


def evaluate(
    snapshot: Snapshot,
    predictors: Sequence[Predictor],
    budgets: Sequence[float] = BUDGETS,
    seeds: Sequence[int] = SEEDS,
    datasets: Sequence[str] | None = None,
    progress: Progress | None = None,
    keep: Callable[[Prediction], None] | None = None,
    skip: Callable[[str, float, int], bool] | None = None,
) -> list[EvaluationRow]:
    """Evaluate predictors on queries whose labels they do not see.

    Args:
        budgets: shares of each data set's labelled queries whose labels are visible, 0..1.
        seeds: seeds of the splits and of the predictors.
        datasets: data sets to report; None reports all. Every predictor sees the whole memory in either case.
        progress: called after each predictor, budget and seed.
        keep: called with the predictions behind each row as soon as the row exists.
        skip: called with predictor, budget and seed; True leaves this combination out.

    Raises:
        InputError: the snapshot lacks a data set or has no ground truth, or a budget is outside 0..1.
        ModelError: a predictor did not return a probability for every rollout.
    """
    reward = rewards_of(snapshot)
    wanted = _datasets(snapshot, datasets)
    hidden = hide_labels(snapshot)
    rows: list[EvaluationRow] = []
    for budget in budgets:
        for seed in seeds:
            split = visible_split(snapshot, Visibility(budget, seed), budget)
            seen = visible_rewards(snapshot, split.labelled)
            for predictor in predictors:
                if skip is not None and skip(predictor.name, budget, seed):
                    continue
                probability = _predicted(predictor, hidden, seen, split, seed)
                cell = _Cell(predictor.name, budget, seed)
                for made in _by_dataset(snapshot, reward, split, wanted, probability, cell):
                    rows.append(made.row)
                    if keep is not None:
                        keep(made)
                if progress is not None:
                    progress(f"{predictor.name} at {budget:.0%}, seed {seed}")
    return rows


def evaluate_split(
    snapshot: Snapshot, predictors: Sequence[Predictor], split: Split, budget: float, seed: int
) -> list[EvaluationRow]:
    """Evaluate predictors on the report queries of a given split; `budget` and `seed` are those of the rows."""
    seen, hidden = visible_rewards(snapshot, split.labelled), hide_labels(snapshot)
    reward, wanted = rewards_of(snapshot), _datasets(snapshot, None)
    rows: list[EvaluationRow] = []
    for predictor in predictors:
        probability, cell = _predicted(predictor, hidden, seen, split, seed), _Cell(predictor.name, budget, seed)
        rows += [made.row for made in _by_dataset(snapshot, reward, split, wanted, probability, cell)]
    return rows


def _predicted(predictor: Predictor, hidden: Snapshot, seen: FloatVector, split: Split, seed: int) -> FloatVector:
    probability = predictor.fit_predict(hidden, seen.copy(), split.train, split.select, seed)
    _check(predictor, probability, len(seen))
    return probability


class _Cell(NamedTuple):
    predictor: str
    budget: float
    seed: int


def _by_dataset(
    snapshot: Snapshot,
    reward: FloatVector,
    split: Split,
    wanted: Sequence[str],
    probability: FloatVector,
    cell: _Cell,
) -> Iterable[Prediction]:
    query = query_of_thinkings(snapshot)
    for dataset in wanted:
        queries = split.report & in_dataset(snapshot, dataset)
        which = queries[query] & np.isfinite(reward)
        metrics = measure(probability[which], reward[which], query[which])
        row = EvaluationRow(dataset, *cell, int(queries.sum()), int(which.sum()), **metrics._asdict())
        yield Prediction(row, probability[which], reward[which], query[which])


def hide_labels(snapshot: Snapshot) -> Snapshot:
    """Remove everything from a snapshot that reveals which rollouts are right or which policy wrote them.

    Rewards, verdicts, reference answers, metadata, runs, policies and the predictions of models are removed. Ids of
    rollouts are replaced by their position, because they are digests that include the policy. Which rollouts of a query
    were sampled together remains visible.
    """
    snapshot = with_rewards(snapshot, np.full(snapshot.thinkings.num_rows, np.nan))
    thinkings = snapshot.thinkings
    for name in HIDDEN_COLUMNS:
        thinkings = _set(thinkings, name, pa.nulls(thinkings.num_rows, thinkings.schema.field(name).type))
    ids = [f"t-{position:010d}" for position in range(thinkings.num_rows)]
    for name, values in (("policy", _anonymous_policies(snapshot)), ("id", ids)):
        thinkings = _set(thinkings, name, pa.array(values, pa.string()))
    edges = {name: table if name in VISIBLE_EDGES else _no_edges(table) for name, table in snapshot.edges.items()}
    nobody = {"runs": snapshot.runs.slice(0, 0), "policies": snapshot.policies.slice(0, 0)}
    return replace(snapshot, thinkings=thinkings, edges=edges, **nobody)


def with_rewards(snapshot: Snapshot, reward: FloatVector) -> Snapshot:
    """Replace the ground truth of a snapshot by these rewards: gold answers, verdicts, predictions
    and whatever else was made with its help are removed.

    Args:
        reward: float64 [T], NaN for a rollout that shall have none.
    """
    nothing = pa.nulls(snapshot.queries.num_rows, pa.string())
    return replace(
        snapshot,
        thinkings=_set(snapshot.thinkings, "reward", pa.array(reward, pa.float64(), mask=~np.isfinite(reward))),
        queries=_set(snapshot.queries, "gold", nothing),
        answers=with_verdicts(snapshot.answers, ANSWER_LABELS.empty_table()),
        edges={name: _no_edges(table) if name in DERIVED_EDGES else table for name, table in snapshot.edges.items()},
        reward_models=snapshot.reward_models.slice(0, 0),
    )


def _no_edges(table: EdgeTable) -> EdgeTable:
    return EdgeTable(np.zeros(0, np.int64), np.zeros(0, np.int64), table.properties.slice(0, 0))


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace a column if the table has it; a snapshot without texts lacks some columns."""
    if name not in table.column_names:
        return table
    return table.set_column(table.column_names.index(name), name, values)


def _anonymous_policies(snapshot: Snapshot) -> list[str]:
    """Policy names that are equal for rollouts of a query that were sampled together and differ between queries.

    They are numbered in the order of the rollouts. A name computed from the real one would allow guesses.
    """
    query = query_of_thinkings(snapshot).tolist()
    groups = zip(query, *(snapshot.thinkings[name].to_pylist() for name in GROUP_COLUMNS), strict=True)
    known: dict[tuple[Any, ...], int] = {}
    return [f"policy-{known.setdefault(key, len(known))}" for key in groups]


def _datasets(snapshot: Snapshot, wanted: Sequence[str] | None) -> list[str]:
    """The datasets to report. A query in several datasets is reported in each."""
    known = sorted(snapshot.datasets["name"].to_pylist())
    if wanted is None:
        return known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"the memory has no data set {', '.join(unknown)}; it has {', '.join(known)}")
    return list(wanted)


def _check(predictor: Predictor, probability: FloatVector, rollouts: int) -> None:
    values = np.asarray(probability)
    if (
        values.shape != (rollouts,)
        or not np.isfinite(values).all()
        or values.min(initial=0) < 0
        or values.max(initial=0) > 1
    ):
        raise ModelError(
            f"the predictor {predictor.name} did not return a probability for each of {rollouts} rollouts; correct it"
        )


def summary(rows: Iterable[EvaluationRow]) -> list[SummaryRow]:
    """Average every metric over seeds, in the rows' order, without the seeds for which it is undefined."""
    cells: dict[tuple[str, str, float, str], list[float]] = {}
    for row in rows:
        for metric in Metrics._fields:
            cells.setdefault((row.dataset, row.predictor, row.budget, metric), []).append(getattr(row, metric))
    out = []
    for (dataset, predictor, budget, metric), values in cells.items():
        known = np.array([v for v in values if not math.isnan(v)])
        mean = float(known.mean()) if len(known) else float("nan")
        error = float(known.std(ddof=1) / math.sqrt(len(known))) if len(known) > 1 else float("nan")
        out.append(SummaryRow(dataset, predictor, budget, metric, mean, error, len(known)))
    return out
