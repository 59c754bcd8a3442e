"""Read what the steps have measured: accuracies, comparisons of ablations, and predictors of rewards.

What is not there yet is None. The interval of an average over datasets is computed from those of the datasets, which
are drawn independently.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError
from memstore_rl.reproduction.layout import COMPARISON, GRADE, predictors_of, state_folder
from memstore_rl.reproduction.plan import Plan, Policy, Run
from memstore_rl.reproduction.sources import Source, Sources, datasets_of

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


def results_of(plan: Plan, sources: Sources, folder: Path, done: Container[str]) -> Results:
    """Read the results of a reproduction.

    Args:
        done: names of the steps that are done; files of others may be incomplete.

    Raises:
        InputError: a file of results is damaged.
    """
    runs: list[Run | None] = [None, *plan.training.all_runs()]
    return Results(
        plan,
        _datasets(sources.in_domain, folder, done),
        _datasets(sources.out_of_domain, folder, done),
        [_state(folder, policy, run, done) for policy in plan.policies for run in runs],
        {policy.name: _predictors(folder, policy, plan, done) for policy in plan.policies},
    )


def _datasets(sources: Iterable[Source], folder: Path, done: Container[str]) -> list[str]:
    written = [source for source in sources if source.declaration is None or f"queries/{source.name}" in done]
    return list(dict.fromkeys(name for source in written for name in datasets_of(folder / source.file)))


def _state(folder: Path, policy: Policy, run: Run | None, done: Container[str]) -> State:
    own, compared, accuracy = state_folder(policy, run), None, {}
    if f"{own}/grade" in done:
        accuracy = _accuracies(_read(folder / own / GRADE))
    if f"{own}/compare" in done:
        lines = _read(folder / own / COMPARISON)["comparison"]
        figure = next(line["figures"]["accuracy"] for line in lines if line["mean"] == "weighted")
        compared = Compared(*(figure[name] for name in Compared._fields))
    return State(policy.name, Path(own).name, run, accuracy, compared)


def _accuracies(document: dict[str, Any]) -> dict[str, Accuracy]:
    found = {}
    for line in document["policies"][0]["lines"] if document["policies"] else ():
        figure = line["figures"]["accuracy"]
        if line["dataset"] is not None and figure["value"] is not None:
            judged = line["samples"] - line["unjudged"]
            found[line["dataset"]] = Accuracy(figure["value"], figure["low"], figure["high"], judged)
    return found


def _predictors(folder: Path, policy: Policy, plan: Plan, done: Container[str]) -> list[Predicted]:
    found: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for name in (predictors_of(policy, budget) for budget in plan.reward_models.budgets):
        for row in _read(folder / f"{name}.json") if name in done else ():
            found[row["predictor"], row["budget"]].append(row)
    return [
        Predicted(predictor, budget, _mean(own, "auc"), _mean(own, "advantage_soft"))
        for (predictor, budget), own in found.items()
    ]


def _mean(rows: Iterable[dict[str, Any]], name: str) -> float | None:
    known = [row[name] for row in rows if row[name] is not None]
    return sum(known) / len(known) if known else None


def _read(path: Path) -> Any:
    """A JSON file that a step has written."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the results in {path} ({error}); do its step again with --redo") from error
