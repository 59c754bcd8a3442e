"""Read what the steps have measured: accuracies, comparisons of ablations, and predictors of rewards.

What is not there yet is None. The interval of an average over datasets is computed from those of the datasets, which
are drawn independently.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError
from memstore_rl.reproduction.plan import Plan, Run
from memstore_rl.reproduction.sources import Source, Sources, datasets_of
from memstore_rl.reproduction.steps import COMPARISON, GRADE, PREDICTORS, START

Z = 1.959964
"""Standard errors on each side of a mean in its 95 % interval."""


class Accuracy(NamedTuple):
    """Share of right samples, with its 95 % interval if it is known."""

    value: float
    low: float | None
    high: float | None
    samples: int
    """Number of judged samples."""


class Compared(NamedTuple):
    """An ablation against its run, over all test queries that both have."""

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None


class Predicted(NamedTuple):
    """A predictor at a label budget, as the mean over datasets and seeds."""

    predictor: str
    budget: float
    auc: float | None
    advantage: float | None


@dataclass(frozen=True)
class State:
    """A policy before its training (`start`), or after one."""

    policy: str
    name: str
    run: Run | None
    accuracy: dict[str, Accuracy]
    """By dataset; {} until it is measured."""
    compared: Compared | None

    def average(self, datasets: Sequence[str]) -> Accuracy | None:
        """The mean of the datasets' accuracies, each with the same weight; None unless all are there."""
        if not datasets or not all(name in self.accuracy for name in datasets):
            return None
        found = [self.accuracy[name] for name in datasets]
        value, samples = sum(each.value for each in found) / len(found), sum(each.samples for each in found)
        if any(each.low is None or each.high is None for each in found):
            return Accuracy(value, None, None, samples)
        errors = [(each.high - each.low) / (2 * Z) for each in found]  # type: ignore[operator]
        half = Z * math.hypot(*errors) / len(found)
        return Accuracy(value, max(value - half, 0.0), min(value + half, 1.0), samples)


@dataclass(frozen=True)
class Results:
    """All results of a plan that are there."""

    plan: Plan
    in_domain: list[str]
    out_of_domain: list[str]
    """Names of the datasets; [] until the queries are written."""
    states: list[State]
    predictors: dict[str, list[Predicted]]
    """By policy."""

    def of(self, policy: str) -> list[State]:
        """The states of a policy."""
        return [state for state in self.states if state.policy == policy]

    def oracle(self, policy: str) -> State | None:
        """The state after the training with every label, if the plan has one."""
        return next((state for state in self.of(policy) if state.run and state.run.mode == "oracle"), None)


def results_of(plan: Plan, sources: Sources, folder: Path) -> Results:
    """Read the results of a reproduction.

    Raises:
        InputError: a file of results is damaged.
    """
    runs: list[Run | None] = [None, *plan.training.all_runs()]
    return Results(
        plan,
        _datasets(sources.in_domain, folder),
        _datasets(sources.out_of_domain, folder),
        [_state(folder, policy.name, run) for policy in plan.policies for run in runs],
        {policy.name: _predictors(folder / policy.name / PREDICTORS) for policy in plan.policies},
    )


def _datasets(sources: Iterable[Source], folder: Path) -> list[str]:
    found = [
        name for source in sources if (folder / source.file).exists() for name in datasets_of(folder / source.file)
    ]
    return list(dict.fromkeys(found))


def _state(folder: Path, policy: str, run: Run | None) -> State:
    own = folder / policy / (run.name if run else START)
    compared = None
    if (document := _read(own / COMPARISON)) is not None:
        line = next(line for line in document["comparison"] if line["mean"] == "weighted")
        figure = line["figures"]["accuracy"]
        compared = Compared(*(figure[name] for name in Compared._fields))
    return State(policy, own.name, run, _accuracies(_read(own / GRADE)), compared)


def _accuracies(document: dict[str, Any] | None) -> dict[str, Accuracy]:
    if document is None:
        return {}
    found = {}
    for line in document["policies"][0]["lines"] if document["policies"] else ():
        figure = line["figures"]["accuracy"]
        if line["dataset"] is not None and figure["value"] is not None:
            judged = line["samples"] - line["unjudged"]
            found[line["dataset"]] = Accuracy(figure["value"], figure["low"], figure["high"], judged)
    return found


def _predictors(path: Path) -> list[Predicted]:
    rows = _read(path) or []
    found: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["predictor"], row["budget"]].append(row)
    return [
        Predicted(predictor, budget, _mean(own, "auc"), _mean(own, "advantage_soft"))
        for (predictor, budget), own in found.items()
    ]


def _mean(rows: Iterable[dict[str, Any]], name: str) -> float | None:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) / len(known) if known else None


def _read(path: Path) -> Any:
    """A JSON file; None if it is not there, or still empty."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        return json.loads(text) if text else None
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}); remove the record of its step, and it is done again") from error
