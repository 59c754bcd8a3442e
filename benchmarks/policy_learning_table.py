"""The table and the plot of benchmarks/policy_learning.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT = 7.5, 4.5
"""Size of the plot in inches."""

Results = dict[str, dict[int, dict[str, Any]]]
"""Result by mode and seed."""


def read_results(folder: Path, seeds: Sequence[int], modes: Sequence[str]) -> Results:
    """The results that a folder has, in the order of the modes."""
    files = {mode: {seed: folder / f"seed-{seed}" / f"{mode}.json" for seed in seeds} for mode in modes}
    read = {
        mode: {seed: json.loads(file.read_text(encoding="utf-8")) for seed, file in of.items() if file.exists()}
        for mode, of in files.items()
    }
    return {mode: results for mode, results in read.items() if results}


def last(result: dict[str, Any]) -> float:
    """Accuracy at the last step."""
    return float(list(result["curve"].values())[-1])


def table(results: Results) -> str:
    """A Markdown table: the last step of each seed, the mean, and what the verifier had to do.

    A mean is over the seeds of the mode. The share of the oracle and the difference to `budget` are over the seeds that
    both modes have; the difference has the standard error of the paired differences.
    """
    seeds = sorted({seed for of in results.values() for seed in of})
    columns = ["mode", *(f"seed {seed}" for seed in seeds), "mean", "of oracle", "less budget", "verifier calls"]
    lines = [f"| {' | '.join(columns)} |", f"|---|{'--:|' * (len(columns) - 1)}"]
    starts = {seed: result["curve"]["0"] for of in results.values() for seed, result in of.items()}
    rows = {
        "start": starts,
        **{mode: {seed: last(result) for seed, result in of.items()} for mode, of in results.items()},
    }
    for mode, of in rows.items():
        each = [f"{of[seed]:.3f}" if seed in of else "" for seed in seeds]
        calls = [result["verified"] for result in results.get(mode, {}).values()]
        said = f"{np.mean(calls):,.0f}" if calls else ""
        cells = [mode, *each, f"{np.mean(list(of.values())):.3f}", _share(of, rows), _difference(of, rows), said]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(of: dict[int, float], rows: dict[str, dict[int, float]]) -> str:
    both = sorted(of.keys() & rows.get("oracle", {}).keys())
    if not both:
        return ""
    return f"{100 * sum(of[seed] for seed in both) / sum(rows['oracle'][seed] for seed in both):.1f} %"


def _difference(of: dict[int, float], rows: dict[str, dict[int, float]]) -> str:
    budget = rows.get("budget", {})
    both = sorted(of.keys() & budget.keys())
    if not both or of is budget:
        return ""
    differences = np.array([of[seed] - budget[seed] for seed in both])
    error = f" ± {differences.std(ddof=1) / np.sqrt(len(both)):.3f}" if len(both) > 1 else ""
    return f"{differences.mean():+.3f}{error}"


def draw(results: Results, file: Path) -> None:
    """Draw the accuracy by step: the mean of each mode, and its seeds as thin lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    for number, (mode, of) in enumerate(results.items()):
        steps = [int(step) for step in next(iter(of.values()))["curve"]]
        curves = np.array([list(result["curve"].values()) for result in of.values()])
        colour = f"C{number}"
        axes.plot(steps, curves.T, color=colour, linewidth=0.6, alpha=0.5)
        axes.plot(steps, curves.mean(0), color=colour, linewidth=2, label=mode)
    axes.set_xlabel("step of GRPO")
    axes.set_ylabel("greedy accuracy on held-out problems")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(file, dpi=110)
