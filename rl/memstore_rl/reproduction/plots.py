"""Plots of a reproduction, with matplotlib.

accuracy.svg        the average accuracy of each policy after each training, in and out of domain
label_budgets.svg   the average accuracy in domain over the label budget
predictors.svg      the AUC of each predictor of rewards over the label budget
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memstore.runtime.disk_space import space_errors
from memstore_rl.reproduction.results import Accuracy, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.6, 3.4
"""Size of one panel, in inches."""
PANELS_A_POLICY = ("accuracy.svg", "label_budgets.svg", "predictors.svg")


def draw_all(results: Results, folder: Path) -> list[str]:
    """Draw the plots that have data; return their names."""
    drawn = []
    for name, draw in zip(PANELS_A_POLICY, (_draw_accuracy, _draw_budgets, _draw_predictors), strict=True):
        from matplotlib.figure import Figure

        policies = list(dict.fromkeys(state.policy for state in results.states))
        figure = Figure(figsize=(WIDTH * len(policies), HEIGHT), layout="constrained")
        axes = [figure.add_subplot(1, len(policies), number + 1) for number in range(len(policies))]
        found = [draw(axis, results, policy) for axis, policy in zip(axes, policies, strict=True)]
        if any(found):
            for axis, policy in zip(axes, policies, strict=True):
                axis.set_title(policy)
            with space_errors(f"no space is left for {folder / name}; free some and run the same command again"):
                figure.savefig(folder / name)
            drawn.append(name)
    return drawn


def _draw_accuracy(axis: Axes, results: Results, policy: str) -> bool:
    states, drawn = results.of(policy), False
    for offset, (label, datasets) in enumerate((("in", results.in_domain), ("out of", results.out_of_domain))):
        points = [(number, state.average(datasets)) for number, state in enumerate(states)]
        known = [(number, each) for number, each in points if each is not None]
        if known:
            drawn = True
            places = [number + 0.15 * (2 * offset - 1) for number, _ in known]
            _error_bars(axis, places, [each for _, each in known], f"{label} domain", "o")
    if drawn:
        axis.set_xticks(range(len(states)), [state.name for state in states], rotation=40, ha="right", fontsize="small")
        axis.set_xlim(-0.5, len(states) - 0.5)
        axis.set_ylabel("average accuracy")
        axis.legend(fontsize="x-small")
    return drawn


def _draw_budgets(axis: Axes, results: Results, policy: str) -> bool:
    curves: dict[str, list[tuple[float, Accuracy]]] = {}
    for state in results.of(policy):
        average = state.average(results.in_domain)
        if average is None or (state.run is not None and state.run.ablation_of is not None):
            continue
        if state.run is not None and state.run.budget is not None:
            curves.setdefault(state.run.mode, []).append((100 * state.run.budget, average))
        else:
            axis.axhline(average.value, linestyle=":", color="0.5")
            axis.annotate(state.name, (1.0, average.value), xycoords=("axes fraction", "data"), fontsize="x-small",
                          ha="right", va="bottom")  # fmt: skip
    for mode, points in curves.items():
        points.sort(key=lambda point: point[0])
        _error_bars(axis, [budget for budget, _ in points], [average for _, average in points], mode, "o-")
    if curves:
        axis.set_xlabel("labelled queries, %")
        axis.set_ylabel("average accuracy in domain")
        axis.legend(fontsize="x-small")
    return bool(curves)


def _draw_predictors(axis: Axes, results: Results, policy: str) -> bool:
    rows = [row for row in results.predictors[policy] if row.auc is not None]
    for name in dict.fromkeys(row.predictor for row in rows):
        own = sorted((100 * row.budget, row.auc or 0.0) for row in rows if row.predictor == name)
        axis.plot([budget for budget, _ in own], [auc for _, auc in own], "o-", label=name, markersize=4)
    if rows:
        axis.set_xlabel("labelled queries, %")
        axis.set_ylabel("AUC on unlabelled queries")
        axis.legend(fontsize="x-small")
    return bool(rows)


def _error_bars(axis: Axes, places: list[float], found: list[Accuracy], label: str, style: str) -> None:
    values = [each.value for each in found]
    below = [each.value - (each.value if each.low is None else each.low) for each in found]
    above = [(each.value if each.high is None else each.high) - each.value for each in found]
    axis.errorbar(places, values, yerr=[below, above], fmt=style, label=label, capsize=2, markersize=4)
