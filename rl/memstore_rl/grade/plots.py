"""A picture of a report: accuracy with its interval on each dataset, and pass@k and majority@k over k.

The first panel has every policy's accuracy on each dataset and over them; where all are steps of trainings, accuracy
over the steps. Where there are figures at several k, each dataset has a panel of its own with them: pass@k as a line,
majority@k dashed, bars for the intervals.

matplotlib draws it; it comes with the extra `plots` and nothing else needs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from memstore.errors import InputError
from memstore_gnn.scoring.output_file import check_output, need_matplotlib
from memstore_rl.grade.report import Figure, Line, PolicyGrade, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 4.2, 3.4
"""Inches of one panel."""
ENDINGS = (".png", ".svg", ".pdf")
_SPAN = 0.6
"""Of a dataset's place on the axis, what its policies take."""


def check_plot(path: Path | None) -> None:
    """Fail before the work rather than after it.

    Raises:
        InputError: matplotlib is not installed, the name ends otherwise than a picture's, or no file can be made there.
    """
    if path is None:
        return
    need_matplotlib()
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path} is no name for a picture; let it end in {', '.join(ENDINGS)}")
    check_output(path, "picture")


def draw(report: Report, path: Path) -> None:
    """Draw a report into a file.

    Raises:
        InputError: as `check_plot`.
    """
    check_plot(path)
    from matplotlib.figure import Figure as Canvas

    grades = [*report.grades, *([report.against] if report.against else [])]
    datasets = list(dict.fromkeys(line.dataset for grade in grades for line in grade.lines if line.dataset))
    shown = datasets if len(report.ks) > 1 else []
    canvas = Canvas(figsize=(WIDTH * (1 + len(shown)), HEIGHT), layout="constrained")
    axes = [canvas.add_subplot(1, 1 + len(shown), place + 1) for place in range(1 + len(shown))]
    steps = len(grades) > 1 and all(grade.subject.step is not None for grade in grades)
    (_draw_steps if steps else _draw_accuracy)(axes[0], grades, datasets)
    for axis, dataset in zip(axes[1:], shown, strict=True):
        _draw_curves(axis, grades, dataset, report.ks)
    canvas.savefig(path, dpi=120)


def _draw_accuracy(axis: Axes, grades: Sequence[PolicyGrade], datasets: Sequence[str]) -> None:
    places = [*datasets, *(("weighted", "macro") if len(datasets) > 1 else ())]
    for number, grade in enumerate(grades):
        found = {line.dataset or line.mean: line.figures["accuracy"] for line in grade.lines}
        offset = _SPAN * ((number + 0.5) / len(grades) - 0.5)
        points = [(place + offset, found[name]) for place, name in enumerate(places) if name in found]
        _draw_points(axis, points, grade.subject.label, "o")
    axis.set_xticks(range(len(places)), places, rotation=30, ha="right")
    axis.set_xlim(-0.5, len(places) - 0.5)
    axis.set_ylabel("accuracy")
    axis.legend(fontsize="x-small")


def _draw_steps(axis: Axes, grades: Sequence[PolicyGrade], datasets: Sequence[str]) -> None:
    """A line for each training and dataset."""
    curves: dict[str, list[tuple[float, Figure]]] = {}
    trainings = len({grade.subject[:2] for grade in grades})
    for grade in sorted(grades, key=lambda grade: grade.subject.step or 0):
        who = ", ".join(filter(None, grade.subject[:2])) if trainings > 1 else ""
        for line in grade.lines:
            if line.dataset is not None:
                label = ", ".join(filter(None, (line.dataset, who)))
                curves.setdefault(label, []).append((float(grade.subject.step or 0), line.figures["accuracy"]))
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
            points = [(k, line.figures[f"{name}@{k}"]) for k in ks if f"{name}@{k}" in line.figures]
            label = name if len(grades) == 1 else f"{name}, {grade.subject.label}"
            _draw_points(axis, [(float(k), figure) for k, figure in points], label, style, f"C{number}")
    axis.set_title(dataset)
    axis.set_xscale("log", base=2)
    axis.set_xticks(list(ks), [str(k) for k in ks])
    axis.set_xlabel("k")
    axis.legend(fontsize="x-small")


def _draw_points(
    axis: Axes, points: Sequence[tuple[float, Figure]], label: str, style: str, colour: str | None = None
) -> None:
    """Values with their intervals; a figure that there is not leaves its place empty."""
    known = [(x, f.value, f.low, f.high) for x, f in points if f.value is not None]
    places, values = [point[0] for point in known], [point[1] for point in known]
    below = [value - (value if low is None else low) for _, value, low, _ in known]
    above = [(value if high is None else high) - value for _, value, _, high in known]
    axis.errorbar(places, values, yerr=[below, above], fmt=style, label=label, color=colour, capsize=2, markersize=4)
