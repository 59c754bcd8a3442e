"""Write the results as Markdown, with plots where matplotlib is installed, and as JSON.

tables.md       accuracies in and out of domain, over label budgets, ablations, predictors of rewards
results.json    the same figures
*.svg           plots, see `plots`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memstore_rl.reproduction.layout import percent
from memstore_rl.reproduction.results import Accuracy, Results, State
from memstore_rl.reproduction.state import RunFolder

TABLES, RESULTS = "tables.md", "results.json"
MISSING = "–"
"""A cell whose figure is not there yet."""
INTRODUCTION = (
    "Accuracies are percentages of right answers to the test queries. An average gives each dataset the same weight; "
    "brackets hold its 95 % interval. *Of oracle* is the average as a share of that after the training with every "
    f"label. `{MISSING}` is not measured yet."
)


def read_made_of(folder: Path) -> str | None:
    """The digest of the steps that the tables of a folder were made from; None if there are none."""
    try:
        found = json.loads((folder / RESULTS).read_text(encoding="utf-8"))["made_of"]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return str(found) if (folder / TABLES).exists() else None


def write_tables(results: Results, folder: RunFolder, made_of: str) -> list[str]:
    """Write the tables and plots; return notes on what is missing.

    Args:
        made_of: digest of the steps with results. It is written last, so that interrupted tables are made again.
    """
    notes = []
    plots: list[str] = []
    if find_spec("matplotlib") is None:
        notes.append("there are no plots, because matplotlib is not installed; run: pip install 'memstore[plots]'")
    else:
        from memstore_rl.reproduction.plots import draw_all

        plots = draw_all(results, folder.path)
    folder.write(TABLES, markdown(results, plots))
    folder.write(RESULTS, json.dumps({"made_of": made_of, **as_json(results)}, indent=1) + "\n")
    return notes


def markdown(results: Results, plots: Sequence[str] = ()) -> str:
    """The tables as a page."""
    sections: list[tuple[str, list[str], str]] = [
        ("In domain", _accuracy_table(results, results.in_domain), "accuracy.svg"),
        ("Out of domain", _accuracy_table(results, results.out_of_domain), ""),
        ("Label budgets", _budget_table(results), "label_budgets.svg"),
        ("Ablations", _ablation_table(results), ""),
        ("Predicted rewards", _predictor_table(results), "predictors.svg"),
    ]
    parts = ["# Results", INTRODUCTION]
    for title, lines, plot in sections:
        if lines:
            parts += [f"## {title}", "\n".join(lines)]
            parts += [f"![{title}]({plot})"] if plot in plots else []
    return "\n\n".join(parts) + "\n"


def as_json(results: Results) -> dict[str, Any]:
    """The results as a JSON document."""
    return {
        "in_domain": results.in_domain,
        "out_of_domain": results.out_of_domain,
        "states": [_state_json(results, state) for state in results.states],
        "predictors": {name: [row._asdict() for row in rows] for name, rows in results.predictors.items()},
    }


def _state_json(results: Results, state: State) -> dict[str, Any]:
    averages = {"in_domain": results.in_domain, "out_of_domain": results.out_of_domain}
    found = {name: state.average(datasets) for name, datasets in averages.items()}
    return {
        "policy": state.policy,
        "run": state.name,
        "mode": state.run.mode if state.run else None,
        "budget": state.run.budget if state.run else None,
        "ablation_of": state.run.ablation_of if state.run else None,
        "accuracy": {name: each._asdict() for name, each in state.accuracy.items()},
        "average": {name: each and each._asdict() for name, each in found.items()},
        "compared": state.compared and state.compared._asdict(),
    }


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    rule = "|".join(["---", "---", *["--:"] * (len(columns) - 2)])
    return [f"| {' | '.join(columns)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def _accuracy_table(results: Results, datasets: Sequence[str]) -> list[str]:
    if not datasets:
        return []
    rows = []
    for state in results.states:
        if state.run is not None and state.run.ablation_of is not None:
            continue
        cells = [_percent(state.accuracy[name].value if name in state.accuracy else None) for name in datasets]
        rows.append([state.policy, state.name, *cells, _average(state, datasets), _of_oracle(results, state, datasets)])
    return _table(["policy", "run", *datasets, "average", "of oracle"], rows)


def _budget_table(results: Results) -> list[str]:
    """The average in domain by label budget, with its share of the oracle's."""
    runs = [state.run for state in results.states if state.run and state.run.budget and not state.run.ablation_of]
    budgets = sorted({run.budget for run in runs if run.budget})
    if len(budgets) < 2:
        return []
    rows = []
    for policy in dict.fromkeys(state.policy for state in results.states):
        for mode in dict.fromkeys(run.mode for run in runs):
            own = {
                s.run.budget: s for s in results.of(policy) if s.run and s.run.mode == mode and not s.run.ablation_of
            }
            rows.append([policy, mode, *(_budget_cell(results, own.get(budget)) for budget in budgets)])
    return _table(["policy", "mode", *(f"{percent(budget)} %" for budget in budgets)], rows)


def _budget_cell(results: Results, state: State | None) -> str:
    if state is None:
        return ""
    average = state.average(results.in_domain)
    return f"{_percent(average and average.value)} ({_of_oracle(results, state, results.in_domain)})"


def _ablation_table(results: Results) -> list[str]:
    rows = []
    for state in results.states:
        if state.run is None or state.run.ablation_of is None:
            continue
        found = state.compared
        values: list[float | None] = [found.first, found.second, found.difference] if found else [None] * 3
        interval = MISSING
        if found and found.low is not None and found.high is not None:
            interval = f"{100 * found.low:.1f} to {100 * found.high:.1f}"
        p = MISSING if found is None or found.p is None else f"{found.p:.2g}"
        rows.append([state.policy, state.name, state.run.ablation_of, *map(_percent, values), interval, p])
    if not rows:
        return []
    lines = _table(["policy", "ablation", "of", "ablation", "run", "difference", "95 % interval", "p"], rows)
    return [*lines, "", "Over all test queries that both have, in and out of domain, each sample with the same weight."]


def _predictor_table(results: Results) -> list[str]:
    budgets = sorted({row.budget for rows in results.predictors.values() for row in rows})
    if not budgets:
        return []
    rows = []
    for policy, found in results.predictors.items():
        for name in dict.fromkeys(row.predictor for row in found):
            own = {row.budget: row for row in found if row.predictor == name}
            cells = [f"{_three(own[b].auc)} / {_three(own[b].advantage)}" if b in own else MISSING for b in budgets]
            rows.append([policy, name, *cells])
    lines = _table(["policy", "predictor", *(f"{percent(budget)} %" for budget in budgets)], rows)
    note = "AUC / cosine of the group-relative advantage, on the rollouts of unlabelled queries; means over datasets."
    return [*lines, "", note]


def _average(state: State, datasets: Sequence[str]) -> str:
    found = state.average(datasets)
    if found is None:
        return MISSING
    return f"{_percent(found.value)}{_interval(found)}"


def _interval(found: Accuracy) -> str:
    return "" if found.low is None or found.high is None else f" [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _of_oracle(results: Results, state: State, datasets: Sequence[str]) -> str:
    oracle = results.oracle(state.policy)
    whole = oracle.average(datasets) if oracle else None
    found = state.average(datasets)
    return MISSING if whole is None or found is None or not whole.value else f"{100 * found.value / whole.value:.1f} %"


def _number(form: str, factor: float) -> Callable[[float | None], str]:
    return lambda value: MISSING if value is None else f"{factor * value:{form}}"


_percent, _three = _number(".1f", 100), _number(".3f", 1)
