"""Plot a report: accuracy with intervals on each dataset, and pass@k and majority@k over k.

The first panel shows the accuracy of every policy on each dataset and over datasets; if all policies have a training
step, it shows accuracy over steps instead. With several k, each dataset gets a panel with pass@k as a solid line,
majority@k as a dashed line, and error bars for the intervals.

Plotting needs matplotlib, which the extra `plots` installs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memstore.errors import InputError
from memstore_gnn.scoring.output_file import check_output, need_matplotlib
from memstore_rl.grade.report import Line, MetricValue, PolicyGrade, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.2, 3.4
"""Size of one panel, in inches."""
SUFFIXES = (".png", ".svg", ".pdf")
_SPREAD = 0.6
"""Width over which the policies of one dataset are spread on the axis; datasets are 1 apart."""


def check_plot(path: Path | None) -> None:
    """Check before grading that the plot can be written.

    Raises:
        InputError: matplotlib is not installed, the suffix is not supported, or the file cannot be created.
    """
    if path is None:
        return
    need_matplotlib()
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"cannot plot to {path}; its name must end in {', '.join(SUFFIXES)}")
    check_output(path, "plot")


def draw(report: Report, path: Path) -> None:
    """Plot a report to a file.

    Raises:
        InputError: see `check_plot`.
    """
    check_plot(path)
    from matplotlib.figure import Figure as Canvas

    grades = [*report.grades, *([report.against] if report.against else [])]
    datasets = list(dict.fromkeys(line.dataset for grade in grades for line in grade.lines if line.dataset))
    shown = datasets if len(report.ks) > 1 else []
    canvas = Canvas(figsize=(WIDTH * (1 + len(shown)), HEIGHT), layout="constrained")
    axes = [canvas.add_subplot(1, 1 + len(shown), number + 1) for number in range(1 + len(shown))]
    steps = len(grades) > 1 and all(grade.policy.step is not None for grade in grades)
    (_draw_steps if steps else _draw_accuracy)(axes[0], grades, datasets)
    for axis, dataset in zip(axes[1:], shown, strict=True):
        _draw_curves(axis, grades, dataset, report.ks)
    canvas.savefig(path, dpi=120)


def _draw_accuracy(axis: Axes, grades: Sequence[PolicyGrade], datasets: Sequence[str]) -> None:
    names = [*datasets, *(("weighted", "macro") if len(datasets) > 1 else ())]
    for number, grade in enumerate(grades):
        found = {line.dataset or line.mean: line.metrics["accuracy"] for line in grade.lines}
        offset = _SPREAD * ((number + 0.5) / len(grades) - 0.5)
        points = [(position + offset, found[name]) for position, name in enumerate(names) if name in found]
        _draw_points(axis, points, grade.policy.label, "o")
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.set_ylabel("accuracy")
    axis.legend(fontsize="x-small")


def _draw_steps(axis: Axes, grades: Sequence[PolicyGrade], datasets: Sequence[str]) -> None:
    """Draw a curve for each training and dataset."""
    curves: dict[str, list[tuple[float, MetricValue]]] = {}
    trainings = len({grade.policy[:2] for grade in grades})
    for grade in sorted(grades, key=lambda grade: grade.policy.step or 0):
        who = ", ".join(filter(None, grade.policy[:2])) if trainings > 1 else ""
        for line in grade.lines:
            if line.dataset is not None:
                label = ", ".join(filter(None, (line.dataset, who)))
                curves.setdefault(label, []).append((float(grade.policy.step or 0), line.metrics["accuracy"]))
    for label, points in curves.items():
        _draw_points(axis, points, label, "o-")
    axis.set_xlabel("step")
    axis.set_ylabel("accuracy")
    axis.legend(fontsize="x-small")


def _draw_curves(axis: Axes, grades: Sequence[PolicyGrade], dataset: str, ks: Sequence[int]) -> None:
    for number, grade in enumerate(grades):
        line: Line | None = next((line for line in grade.lines if line.dataset == dataset), None)
        if line is None:
            continue
        for name, style in (("pass", "o-"), ("majority", "s--")):
            points = [(k, line.metrics[f"{name}@{k}"]) for k in ks if f"{name}@{k}" in line.metrics]
            label = name if len(grades) == 1 else f"{name}, {grade.policy.label}"
            _draw_points(axis, [(float(k), metric) for k, metric in points], label, style, f"C{number}")
    axis.set_title(dataset)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(ks), [str(k) for k in ks])
    axis.set_xlabel("k")
    axis.legend(fontsize="x-small")


def _draw_points(
    axis: Axes, points: Sequence[tuple[float, MetricValue]], label: str, style: str, colour: str | None = None
) -> None:
    """Draw values with error bars; a missing metric leaves a gap."""
    known = [(x, metric.value, metric.low, metric.high) for x, metric in points if metric.value is not None]
    positions, values = [point[0] for point in known], [point[1] for point in known]
    below = [value - (value if low is None else low) for _, value, low, _ in known]
    above = [(value if high is None else high) - value for _, value, _, high in known]
    axis.errorbar(positions, values, yerr=[below, above], fmt=style, label=label, color=colour, capsize=2, markersize=4)
