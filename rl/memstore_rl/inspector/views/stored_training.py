"""What is stored of trainings: rewards and their sources by run and step, and flips of the policies' majorities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from memstore.types import IntVector
from memstore_rl.inspector.source import Source
from memstore_rl.inspector.views.overview import floats
from memstore_rl.inspector.views.training import StepRow, bins, share_of
from memstore_rl.rewards.majorities import Majorities
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
        recalled = np.array([name == "remembered" for name in edges.properties["source"].to_pylist()], np.bool_)
        remembered, predicted = STORED_SOURCES.index("remembered"), STORED_SOURCES.index("predicted")
        kind[scored] = np.where(recalled, remembered, predicted)[oldest_first]
        probability[scored] = floats(edges.properties["probability"])[oldest_first]
    labelled = np.isfinite(floats(thinkings["reward"]))
    by_person = np.array([name == PERSON for name in thinkings["reward_source"].to_pylist()], np.bool_)
    kind[labelled] = STORED_SOURCES.index("ground_truth")
    kind[labelled & by_person] = STORED_SOURCES.index(PERSON)
    return kind, probability


def _flips(
    source: Source, run: IntVector, step: np.ndarray, stepped: np.ndarray
) -> dict[int, dict[int, tuple[int, int]]]:
    """Groups that were compared and groups that flipped, by run and step."""
    count = len(run)
    query, answer = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    generates = source.edges(EdgeType.GENERATES, NodeLabel.QUERY, NodeLabel.THINKING, [])
    leads = source.edges(EdgeType.LEADS_TO, NodeLabel.THINKING, NodeLabel.ANSWER, [])
    query[generates.target], answer[leads.source] = generates.source, leads.target
    code = np.array(
        [name == "code" for name in source.nodes(NodeLabel.QUERY, ["domain"])["domain"].to_pylist()], np.bool_
    )
    chosen = np.flatnonzero(stepped & (query >= 0))
    chosen = chosen[~code[query[chosen]]]
    order = chosen[np.lexsort((query[chosen], step[chosen], run[chosen]))]
    keys = np.stack((run[order], step[order].astype(np.int64), query[order]), axis=1)
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=keys[:1] - 1), axis=1))
    majorities, found = Majorities(), dict[int, dict[int, tuple[int, int]]]()
    for part in np.split(order, starts[1:]) if len(order) else []:
        first = part[0]
        answers = [None if one < 0 else str(one) for one in answer[part].tolist()]
        at, of_step = int(run[first]), int(step[first])
        flips = majorities.flips(str(at), of_step, str(query[first]), answers)
        compared, flipped = found.setdefault(at, {}).get(of_step, (0, 0))
        found[at][of_step] = (compared + (flips is not None), flipped + bool(flips))
    return found


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
