"""What is stored of trainings: rewards and their sources by run and step, and flips of the policies' majorities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.types import IntVector
from memstore_rl.inspector.source import Source
from memstore_rl.inspector.views.overview import floats
from memstore_rl.inspector.views.training import StepRow, bins, share_of
from memstore_rl.rewards.reward import SOURCES
from memstore_schema.columns import EdgeType, NodeLabel

RUNS = 50
"""Runs that the page lists, those with most rollouts first."""
PERSON = "person"
STORED_SOURCES = (*SOURCES, PERSON)
"""Sources of stored rewards: those of the service, and labels by people."""


@dataclass(frozen=True)
class StoredRun:
    """A run whose rollouts have steps."""

    run: str | None
    rollouts: int
    rows: tuple[StepRow, ...]


@dataclass(frozen=True)
class StoredTraining:
    """The runs of a memory or snapshot."""

    runs: tuple[StoredRun, ...]
    """Those with most rollouts first."""
    more_runs: int
    without_step: int
    """Rollouts without a step."""


def stored_training(source: Source) -> StoredTraining:
    """Read the runs. It takes seconds in a large memory."""
    thinkings = source.nodes(NodeLabel.THINKING, ["run", "step", "reward", "reward_source"])
    names = thinkings["run"].combine_chunks().dictionary_encode()
    run = np.asarray(names.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)
    step = floats(thinkings["step"])
    kind, probability = _kinds(source, thinkings)
    stepped = np.isfinite(step)
    table = pa.table(
        {
            "run": run[stepped],
            "step": step[stepped].astype(np.int64),
            "kind": kind[stepped],
            "reward": pa.array(floats(thinkings["reward"])[stepped], from_pandas=True),
            "probability": pa.array(probability[stepped], from_pandas=True),
        }
    )
    figures = [(name, of) for name in ("reward", "probability") for of in ("sum", "count")]
    cells = table.group_by(["run", "step", "kind"], use_threads=False).aggregate([*figures, ([], "count_all")])
    steps: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for cell in cells.to_pylist():
        steps.setdefault(cell["run"], {}).setdefault(cell["step"], []).append(cell)
    flips = _flips(source, run, step, stepped)
    dictionary = names.dictionary.to_pylist()
    found = [_run(None if at < 0 else dictionary[at], of_run, flips.get(at, {})) for at, of_run in steps.items()]
    ordered = sorted(found, key=lambda one: (-one.rollouts, one.run or ""))
    return StoredTraining(tuple(ordered[:RUNS]), max(0, len(ordered) - RUNS), int((~stepped).sum()))


def _kinds(source: Source, thinkings: pa.Table) -> tuple[IntVector, np.ndarray]:
    """The source of each rollout's reward, as a position in `STORED_SOURCES`, and its probability; NaN without one.

    A label is the source where there is one, else the score by the newest model that has scored the rollout.
    """
    kind = np.full(len(thinkings), STORED_SOURCES.index("unscored"), np.int64)
    probability = np.full(len(thinkings), np.nan)
    version = floats(source.nodes(NodeLabel.REWARD_MODEL, ["version"])["version"])
    if len(version):
        edges = source.edges(EdgeType.SCORED_BY, NodeLabel.THINKING, NodeLabel.REWARD_MODEL, ["probability", "source"])
        oldest_first = np.argsort(version[edges.target], kind="stable")
        scored = edges.source[oldest_first]
        recalled = _is(edges.properties["source"], "remembered")
        remembered, predicted = STORED_SOURCES.index("remembered"), STORED_SOURCES.index("predicted")
        kind[scored] = np.where(recalled, remembered, predicted)[oldest_first]
        probability[scored] = floats(edges.properties["probability"])[oldest_first]
    labelled = np.isfinite(floats(thinkings["reward"]))
    by_person = _is(thinkings["reward_source"], PERSON)
    kind[labelled] = STORED_SOURCES.index("ground_truth")
    kind[labelled & by_person] = STORED_SOURCES.index(PERSON)
    return kind, probability


def _flips(
    source: Source, run: IntVector, step: np.ndarray, stepped: np.ndarray
) -> dict[int, dict[int, tuple[int, int]]]:
    """Groups that were compared and groups that flipped, by run and step; see `memstore_rl.rewards.majorities`."""
    query, answer = np.full(len(run), -1, np.int64), np.full(len(run), -1, np.int64)
    generates = source.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, [])
    leads = source.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
    query[generates.target], answer[leads.source] = generates.source, leads.target
    rows = np.flatnonzero(stepped & (query >= 0) & (answer >= 0))
    rows = rows[~_is(source.nodes(NodeLabel.QUERY, ["domain"])["domain"], "code")[query[rows]]]
    groups, winner, group_of = _majorities(run[rows], query[rows], step[rows].astype(np.int64), answer[rows])
    goes_on = np.zeros(groups.shape[1], np.bool_)
    goes_on[1:] = np.all(groups[:2, 1:] == groups[:2, :-1], axis=0)
    width = int(answer.max(initial=0)) + 1
    keys = group_of * width + winner
    shares = np.bincount(group_of, np.isin(keys - width, keys), groups.shape[1]) > 0
    found: dict[int, dict[int, tuple[int, int]]] = {}
    cells, at = np.unique(groups[[0, 2]][:, goes_on], axis=1, return_inverse=True)
    compared = np.bincount(at.ravel(), minlength=cells.shape[1])
    flipped = np.bincount(at.ravel(), ~shares[goes_on], cells.shape[1])
    for one, of_step, *counts in zip(*cells.tolist(), compared.tolist(), flipped.tolist(), strict=True):
        found.setdefault(one, {})[of_step] = (counts[0], int(counts[1]))
    return found


def _majorities(
    run: IntVector, query: IntVector, step: IntVector, answer: IntVector
) -> tuple[np.ndarray, IntVector, IntVector]:
    """The most frequent answers of each group of rollouts in which at least two agree.

    Returns:
        The groups in the order of run, query and step, int64 [3, G]; the most frequent answers; and the group of each.
    """
    rollouts = np.stack((run, query, step, answer))[:, np.lexsort((answer, step, query, run))]
    starts = np.flatnonzero(np.any(np.diff(rollouts, prepend=rollouts[:, :1] - 1), axis=0))
    votes, cells = np.diff(starts, append=rollouts.shape[1]), rollouts[:, starts]
    begins = np.any(np.diff(cells[:3], prepend=cells[:3, :1] - 1), axis=0)
    group = np.cumsum(begins) - 1
    most = np.maximum.reduceat(votes, np.flatnonzero(begins)) if len(votes) else votes
    wins = np.flatnonzero((votes == most[group]) & (votes > 1))
    first = np.diff(group[wins], prepend=-1) > 0
    return cells[:3, wins[first]], cells[3, wins], np.cumsum(first) - 1


def _is(column: pa.ChunkedArray, value: str) -> np.ndarray:
    """Where a column has this value, bool."""
    return np.asarray(pc.fill_null(pc.equal(column, value), False).to_numpy(zero_copy_only=False), np.bool_)


def _run(
    name: str | None, steps: Mapping[int, list[dict[str, Any]]], flips: Mapping[int, tuple[int, int]]
) -> StoredRun:
    rollouts = sum(cell["count_all"] for cells in steps.values() for cell in cells)
    return StoredRun(name, rollouts, tuple(_row(part, steps, flips) for part in bins(sorted(steps))))


def _row(
    part: Sequence[int], steps: Mapping[int, list[dict[str, Any]]], flips: Mapping[int, tuple[int, int]]
) -> StepRow:
    cells = [cell for step in part for cell in steps[step]]
    sources: Counter[str] = Counter()
    for cell in cells:
        sources[STORED_SOURCES[cell["kind"]]] += cell["count_all"]
    compared, flipped = (sum(flips.get(step, (0, 0))[at] for step in part) for at in (0, 1))
    means = {
        name: sum(cell[f"{name}_sum"] or 0.0 for cell in cells) / count
        for name in ("reward", "probability")
        if (count := sum(cell[f"{name}_count"] for cell in cells))
    }
    return StepRow(
        first=part[0],
        last=part[-1],
        sources=dict(sources),
        flip_share=share_of(flipped, compared),
        reward=means.get("reward"),
        predicted=means.get("probability"),
    )
