"""The memory at a glance: counts, datasets, runs over steps, models, and the state of the stores."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.pipeline.stats import POSITIVE
from memstore_rl.inspector.charts import Point
from memstore_rl.inspector.source import MemorySource, Source
from memstore_schema.columns import EdgeType, NodeLabel

RUNS = 50
"""Runs that the page lists, those with most rollouts first."""
BINS = 60
"""Points of a line at most; steps beyond are averaged."""
_COUNTED = {
    "queries": NodeLabel.QUERY,
    "rollouts": NodeLabel.THINKING,
    "answers": NodeLabel.ANSWER,
    "policies": NodeLabel.POLICY,
    "runs": NodeLabel.RUN,
}


@dataclass(frozen=True)
class DatasetRow:
    """Counts of a dataset; a query may be in several."""

    name: str
    queries: int
    labelled_queries: int
    rollouts: int
    labelled: int
    positive: int
    """Labelled rollouts whose reward exceeds one half."""

    @property
    def coverage(self) -> float:
        """Share of the queries that have a label."""
        return self.labelled_queries / self.queries if self.queries else 0.0

    @property
    def right(self) -> float | None:
        """Share of the labelled rollouts that are right."""
        return self.positive / self.labelled if self.labelled else None


@dataclass(frozen=True)
class RunRow:
    """A policy of a run: its rollouts and how its reward went over the steps."""

    run: str | None
    policy: str | None
    rollouts: int
    labelled: int
    steps: tuple[int, int] | None
    """First and last step."""
    reward: float | None
    """Mean ground truth."""
    predicted: float | None
    """Mean probability by the model in use."""
    line: tuple[Point, ...]
    """Mean reward over steps: ground truth where there is one, else the prediction."""


@dataclass(frozen=True)
class ModelRow:
    """A reward model."""

    id: str
    version: int | None
    created_at: dt.datetime | None
    scored: int
    in_use: bool
    metrics: Mapping[str, float]
    """Figures on held-out queries, by name."""


@dataclass(frozen=True)
class Overview:
    """The memory at a glance."""

    counts: Mapping[str, int]
    labelled_queries: int
    labelled_rollouts: int
    predicted_rollouts: int
    datasets: tuple[DatasetRow, ...]
    runs: tuple[RunRow, ...]
    more_runs: int
    models: tuple[ModelRow, ...]
    facts: Mapping[str, str]
    problems: tuple[str, ...]
    """What is unfinished or amiss in the stores, one sentence each."""

    @property
    def coverage(self) -> float:
        """Share of the queries that have a label."""
        return self.labelled_queries / self.counts["queries"] if self.counts["queries"] else 0.0


def overview(source: Source) -> Overview:
    """Count a memory or snapshot. It takes seconds in a large one."""
    thinkings = source.nodes(NodeLabel.THINKING, ["dataset", "run", "policy", "step", "reward", "linked", "vector_key"])
    query_count = len(source.nodes(NodeLabel.QUERY, ["id"]))
    generates = source.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING)
    query_of = np.zeros(len(thinkings), np.int64)
    query_of[generates.target] = generates.source
    reward = floats(thinkings["reward"])
    model = source.model_in_use()
    models, probability = _models(source, model, len(thinkings))
    labelled = np.zeros(query_count, np.bool_)
    labelled[query_of[~np.isnan(reward)]] = True
    runs = _runs(thinkings, reward, probability)
    counts = {
        name: len(thinkings) if label is NodeLabel.THINKING else len(source.nodes(label, ["id"]))
        for name, label in _COUNTED.items()
    }
    return Overview(
        counts=counts,
        labelled_queries=int(labelled.sum()),
        labelled_rollouts=int((~np.isnan(reward)).sum()),
        predicted_rollouts=int((~np.isnan(probability)).sum()),
        datasets=tuple(_datasets(source, thinkings, reward, labelled)),
        runs=tuple(runs[:RUNS]),
        more_runs=max(0, len(runs) - RUNS),
        models=models,
        facts=source.facts(),
        problems=tuple(_problems(source, thinkings)),
    )


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers as float64, NaN for null."""
    return np.asarray(column.to_numpy(zero_copy_only=False), np.float64)


def _models(source: Source, used: str | None, rollouts: int) -> tuple[tuple[ModelRow, ...], np.ndarray]:
    """The models, newest first, and the probability that the one in use gave each rollout, float64 [T]."""
    probability = np.full(rollouts, np.nan)
    nodes = source.nodes(NodeLabel.REWARD_MODEL, ["id", "version", "created_at", "metrics"]).to_pylist()
    if not nodes:
        return (), probability
    edges = source.edges(EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL, ["probability"])
    scored = np.bincount(edges.target, minlength=len(nodes))
    at = next(row for row, node in enumerate(nodes) if node["id"] == used)
    own = edges.target == at
    probability[edges.source[own]] = floats(edges.properties["probability"])[own]
    rows = [
        ModelRow(
            node["id"], node["version"], node["created_at"], int(count), node["id"] == used, figures_of(node["metrics"])
        )
        for node, count in zip(nodes, scored.tolist(), strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: -(row.version or 0))), probability


def figures_of(document: str | None) -> dict[str, float]:
    """The figures of a model's metrics that are plain numbers."""
    found = json.loads(document) if document else {}
    return {name: float(value) for name, value in found.items() if type(value) in (int, float)}


def _datasets(source: Source, thinkings: pa.Table, reward: np.ndarray, labelled: np.ndarray) -> list[DatasetRow]:
    names = source.nodes(NodeLabel.DATASET, ["name"])["name"].to_pylist()
    named = source.edges(EdgeType.IN, NodeLabel.QUERY, NodeLabel.DATASET, [])
    pairs = np.unique(np.stack((named.target, named.source)), axis=1)
    queries = np.bincount(pairs[0], minlength=len(names))
    known = np.bincount(pairs[0][labelled[pairs[1]]], minlength=len(names))
    at = pc.index_in(thinkings["dataset"], value_set=pa.array(names, pa.string())).fill_null(len(names)).to_numpy()
    counts = [
        np.bincount(at[mask], minlength=len(names) + 1).tolist()
        for mask in (np.ones(len(reward), np.bool_), ~np.isnan(reward), reward > POSITIVE)
    ]
    rows = zip(names, queries.tolist(), known.tolist(), *(count[: len(names)] for count in counts), strict=True)
    return sorted((DatasetRow(*row) for row in rows), key=lambda row: row.name)


def _runs(thinkings: pa.Table, reward: np.ndarray, probability: np.ndarray) -> list[RunRow]:
    """Rows by run and policy, those with most rollouts first."""
    table = thinkings.select(["run", "policy", "step"])
    table = table.append_column("reward", pa.array(reward, mask=np.isnan(reward)))
    table = table.append_column("p", pa.array(probability, mask=np.isnan(probability)))
    figures = [("reward", "sum"), ("reward", "count"), ("p", "sum"), ("p", "count"), ("run", "count")]
    steps = table.group_by(["run", "policy", "step"], use_threads=False).aggregate([*figures[:4], ([], "count_all")])
    found: dict[tuple[str | None, str | None], list[dict[str, Any]]] = {}
    for row in steps.to_pylist():
        found.setdefault((row["run"], row["policy"]), []).append(row)
    rows = [_run(*names, of_run) for names, of_run in found.items()]
    return sorted(rows, key=lambda row: (-row.rollouts, row.run or "", row.policy or ""))


def _run(run: str | None, policy: str | None, rows: list[dict[str, Any]]) -> RunRow:
    total = {name: sum(row[name] or 0 for row in rows) for name in ("reward_sum", "reward_count", "p_sum", "p_count")}
    stepped = sorted((row for row in rows if row["step"] is not None), key=lambda row: row["step"])
    return RunRow(
        run=run,
        policy=policy,
        rollouts=sum(row["count_all"] for row in rows),
        labelled=total["reward_count"],
        steps=(stepped[0]["step"], stepped[-1]["step"]) if stepped else None,
        reward=total["reward_sum"] / total["reward_count"] if total["reward_count"] else None,
        predicted=total["p_sum"] / total["p_count"] if total["p_count"] else None,
        line=tuple(_line(stepped)),
    )


def _line(rows: list[dict[str, Any]]) -> list[Point]:
    """Mean reward over steps, in at most `BINS` bins."""
    width = max(1, -(-len(rows) // BINS))
    points = []
    for start in range(0, len(rows), width):
        binned = rows[start : start + width]
        for name in ("reward", "p"):
            count = sum(row[f"{name}_count"] for row in binned)
            if count:
                points.append(Point(binned[0]["step"], sum(row[f"{name}_sum"] or 0 for row in binned) / count))
                break
    return points if len(points) > 1 else []


def _problems(source: Source, thinkings: pa.Table) -> list[str]:
    """What is unfinished in the stores."""
    found = []
    states = source.nodes(NodeLabel.BATCH, ["state"])["state"].to_pylist()
    if unfinished := sum(state != "done" for state in states):
        found.append(f"{unfinished:,} ingested batches are unfinished; run memstore verify --repair")
    if isinstance(source, MemorySource):
        pending = pc.sum(pc.and_(pc.is_null(thinkings["linked"]), pc.is_valid(thinkings["vector_key"]))).as_py() or 0
        if pending:
            found.append(f"{pending:,} rollouts are not linked to similar ones yet; run memstore link")
        free = shutil.disk_usage(source.memory.folder).free
        if free < 2**30:
            found.append(f"only {free / 2**20:,.0f} MiB are free on the disk of {source.memory.folder}")
    return found
