"""The protocol: hide labels, let predictors guess them, and measure, over budgets and seeds.

Labels are hidden here and nowhere else (`hide_labels`): a predictor is handed a snapshot from which *every* reward
and all that tells of one was removed; the labels of the budget come beside it, as a vector with NaN for all others.
There is nothing to cheat with.

One predictor covers all datasets of a memory at once; figures are given for each dataset.
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
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.predictor import Predictor
from memstore_gnn.data.splits import Split, label_budget
from memstore_gnn.metrics import Metrics, measure

BUDGETS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
SEEDS = (0, 1, 2)

TELLING = ("reward", "reward_source", "metadata", "run", "step", "sample_index", "created_at")
"""Columns of rollouts that are hidden: labels, and what may name the policy or the order of a file."""
SAMPLED_TOGETHER = ("run", "policy", "step")
STRUCTURE = ("generates", "leads_to", "query_similar", "thinking_similar")
"""Edges that are not hidden."""

Progress = Callable[[str], None]
"""Called with a line about what was just measured."""


@dataclass(frozen=True)
class EvaluationRow:
    """A predictor on the report queries of one dataset, at one budget, under one seed."""

    dataset: str
    predictor: str
    budget: float
    seed: int
    queries: int
    rollouts: int
    auc: float
    accuracy: float
    pair_accuracy: float
    advantage_hard: float
    advantage_soft: float
    ece: float
    brier: float
    aurc: float

    def to_json(self) -> dict[str, Any]:
        """The row as JSON knows it: a figure that cannot be had is null."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


class SummaryRow(NamedTuple):
    """Mean and standard error of one metric over seeds; the error is NaN for a single seed."""

    dataset: str
    predictor: str
    budget: float
    metric: str
    mean: float
    error: float
    seeds: int


class Prediction(NamedTuple):
    """A row and what it was made of: float64 [rollouts] each, and the query of each of them, int64 [rollouts]."""

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
    """Measure predictors on queries whose labels they do not see.

    Args:
        datasets: report these only; every predictor still sees the whole memory.
        keep: called with the predictions behind each row, as soon as there is one.
        skip: leave out a (predictor, budget, seed), because its rows are known already.

    Raises:
        InputError: a dataset that the snapshot does not have, a budget that is no share, no ground truth.
        ModelError: a predictor returned something else than a probability for every rollout.
    """
    reward = rewards_of(snapshot)
    of_query = np.array(snapshot.queries["dataset"].fill_null("").to_pylist(), dtype=object)
    wanted = _datasets(of_query, datasets)
    hidden = hide_labels(snapshot)
    rows: list[EvaluationRow] = []
    for budget in budgets:
        for seed in seeds:
            split = label_budget(snapshot, budget, seed)
            visible = np.where(split.labelled[query_of_thinkings(snapshot)], reward, np.nan)
            for predictor in predictors:
                if skip is not None and skip(predictor.name, budget, seed):
                    continue
                probability = predictor.fit_predict(hidden, visible.copy(), split.train, split.select, seed)
                _check(predictor, probability, len(reward))
                cell = _Cell(predictor.name, budget, seed)
                for made in _by_dataset(snapshot, reward, split, wanted, of_query, probability, cell):
                    rows.append(made.row)
                    if keep is not None:
                        keep(made)
                if progress is not None:
                    progress(f"{predictor.name} at {budget:.0%}, seed {seed}")
    return rows


class _Cell(NamedTuple):
    predictor: str
    budget: float
    seed: int


def _by_dataset(
    snapshot: Snapshot,
    reward: FloatVector,
    split: Split,
    wanted: Sequence[str],
    of_query: np.ndarray,
    probability: FloatVector,
    cell: _Cell,
) -> Iterable[Prediction]:
    query = query_of_thinkings(snapshot)
    for dataset in wanted:
        queries = split.report & (of_query == dataset)
        which = queries[query] & np.isfinite(reward)
        metrics = measure(probability[which], reward[which], query[which])
        row = EvaluationRow(dataset, *cell, int(queries.sum()), int(which.sum()), **metrics._asdict())
        yield Prediction(row, probability[which], reward[which], query[which])


def hide_labels(snapshot: Snapshot) -> Snapshot:
    """The snapshot without anything that tells which rollout is right or who wrote it.

    Gone are rewards, reference answers, metadata, runs and the models' word; ids of rollouts, which are digests of who
    wrote them among other things, are replaced by their place. Which rollouts of a query were sampled together is
    still to be seen.
    """
    thinkings = snapshot.thinkings
    for name in TELLING:
        thinkings = _set(thinkings, name, pa.nulls(thinkings.num_rows, thinkings.schema.field(name).type))
    places = [f"t-{place:010d}" for place in range(thinkings.num_rows)]
    for name, values in (("policy", _anonymous_policies(snapshot)), ("id", places)):
        thinkings = _set(thinkings, name, pa.array(values, pa.string()))
    queries = _set(snapshot.queries, "gold", pa.nulls(snapshot.queries.num_rows, pa.string()))
    edges = {name: table if name in STRUCTURE else _no_edges(table) for name, table in snapshot.edges.items()}
    return replace(
        snapshot,
        thinkings=thinkings,
        queries=queries,
        edges=edges,
        runs=snapshot.runs.slice(0, 0),
        reward_models=snapshot.reward_models.slice(0, 0),
    )


def _no_edges(table: EdgeTable) -> EdgeTable:
    return EdgeTable(np.zeros(0, np.int64), np.zeros(0, np.int64), table.properties.slice(0, 0))


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """Replace a column; a snapshot without texts does not have every one."""
    if name not in table.column_names:
        return table
    return table.set_column(table.column_names.index(name), name, values)


def _anonymous_policies(snapshot: Snapshot) -> list[str]:
    """The same name for rollouts of one query that were sampled together, another one in every other query.

    Numbered in the order of a group's rollouts: a name that could be computed from the true one could be guessed.
    """
    query = query_of_thinkings(snapshot).tolist()
    who = zip(query, *(snapshot.thinkings[name].to_pylist() for name in SAMPLED_TOGETHER), strict=True)
    known: dict[tuple[Any, ...], int] = {}
    return [f"policy-{known.setdefault(key, len(known))}" for key in who]


def _datasets(of_query: np.ndarray, wanted: Sequence[str] | None) -> list[str]:
    known = sorted(set(of_query))
    if wanted is None:
        return known
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise InputError(f"The memory has no dataset {', '.join(unknown)}; it has {', '.join(known)}.")
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
            f"The predictor {predictor.name} did not return a probability for each of {rollouts} rollouts."
        )


def summary(rows: Iterable[EvaluationRow]) -> list[SummaryRow]:
    """Mean and standard error over seeds of every metric, in the rows' order; NaN figures are left out."""
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
