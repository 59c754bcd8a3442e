"""`memstore grade`: score policies by their rollouts."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore.errors import InputError
from memstore_cli.options import (
    CodeOption,
    DatasetOption,
    DomainOption,
    JsonOption,
    MapOption,
    RequestsOption,
    RewardColumnOption,
    UsageError,
    record_defaults,
    with_option_groups,
)
from memstore_cli.output import print_json, print_table
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from memstore_rl.grade import GradeOptions
    from memstore_rl.grade.report import ComparedLine, Line, MetricValue, PolicyGrade, Report


MAX_METRIC_COLUMNS = 5
"""Up to this many metrics are columns of one table; more get a line each."""


class Rewards(StrEnum):
    """Reward sources of `memstore_rl.grade.verdicts`, which this module does not import."""

    FILE = "file"
    VERIFIER = "verifier"


@dataclass(frozen=True)
class PolicyOptions:
    """Which policies are graded and compared."""

    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="FILE", show_default=False, help="Compare with the rollouts in this file."),
    ] = None
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="NAME", show_default=False, help="Grade only this policy: NAME or NAME@STEP."),
    ] = None
    against_policy: Annotated[
        str | None,
        typer.Option("--against-policy", metavar="NAME", show_default=False, help="The same for --against."),
    ] = None
    pool: Annotated[bool, typer.Option("--pool", help="Treat all samples as those of one policy.")] = False


@dataclass(frozen=True)
class GradingOptions:
    """How samples are graded, and which metrics are computed."""

    k: Annotated[
        list[int] | None,
        typer.Option("--k", "-k", min=1, show_default="1, n", help="k of pass@k and majority@k. Repeatable."),
    ] = None
    rewards: Annotated[
        Rewards | None,
        typer.Option(
            "--rewards", show_default=False, help="Reward source. Default: verifier; file if there are no gold answers."
        ),
    ] = None
    code: CodeOption = False
    dataset: DatasetOption = None
    domain: DomainOption = None
    reward_column: RewardColumnOption = None
    paths: MapOption = None
    requests: RequestsOption = None
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the intervals and p-values.")] = 0

    def options(self, policies: PolicyOptions) -> GradeOptions:
        """The library's form of these options."""
        from memstore_rl.grade import GradeOptions

        return GradeOptions(
            ks=tuple(self.k or ()),
            rewards=self.rewards.value if self.rewards else None,
            policy=policies.policy,
            against_policy=policies.against_policy,
            pool=policies.pool,
            defaults=record_defaults(
                self.dataset, self.domain, self.reward_column, paths=self.paths, requests=self.requests
            ),
            seed=self.seed,
        )


@dataclass(frozen=True)
class OutputFiles:
    """Files that are written."""

    samples: Annotated[
        Path | None,
        typer.Option("--samples", metavar="FILE", show_default=False, help="Write a JSON line for each sample."),
    ] = None
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", show_default=False, help="Plot the metrics to a .png, .svg or .pdf."),
    ] = None


@with_option_groups
def grade(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Rollouts in any file that ingest reads; - is JSONL on stdin."),
    ],
    policies: PolicyOptions,
    grading: GradingOptions,
    outputs: OutputFiles,
    as_json: JsonOption = False,
) -> None:
    """Score policies by their rollouts: accuracy, pass@k and majority@k, with 95 % intervals.

    Verifiers compare answers with gold answers; samples that cannot be judged are counted but not scored.
    """
    if policies.against_policy is not None and not policies.against:
        raise UsageError("--against-policy selects a policy of --against; also pass --against FILE")
    from memstore_rl.grade import grade_files
    from memstore_rl.grade.plots import check_plot, draw
    from memstore_rl.verifiers import make_verifiers

    check_plot(outputs.plot)
    with closing(make_verifiers(code=grading.code)) as verifiers, show_progress(as_json) as progress:
        report = grade_files(
            files,
            grading.options(policies),
            against=policies.against or (),
            verifiers=verifiers,
            samples=outputs.samples,
            progress=progress,
        )
    if outputs.plot is not None:
        if not report.grades:
            raise InputError(f"there is nothing to draw: {report.notes[0]}")
        draw(report, outputs.plot)
    if as_json:
        print_json(report.as_json())
    else:
        show_report(report)


def show_report(report: Report) -> None:
    """Print the metrics of each policy, the comparison, and the notes."""
    if report.grades:
        _show_grades([*report.grades, *([report.against] if report.against else [])])
    if report.comparison is not None and report.against is not None:
        _show_comparison(report.comparison, report.grades[0].policy.label, report.against.policy.label)
    for note in report.notes:
        print(note)


def _show_grades(grades: list[PolicyGrade]) -> None:
    """Print counts and metrics of every line, without empty columns."""
    lines = [(grade, line) for grade in grades for line in _distinct_lines(grade)]
    names = [name for name in lines[0][1].metrics if not _is_accuracy(name, [line for _, line in lines])]
    several_runs = len({grade.policy.run for grade in grades}) > 1
    columns = ("policy", *(("run",) if several_runs else ()), "dataset")
    keys = [
        [grade.policy.label, *([grade.policy.run] if several_runs else []), line.dataset or f"all, {line.mean}"]
        for grade, line in lines
    ]
    counts = _count_columns([line for _, line in lines])
    counted = [[*key, *(count(line) for count in counts.values())] for key, (_, line) in zip(keys, lines, strict=True)]
    rows: list[list[Any]] = []
    if len(names) > MAX_METRIC_COLUMNS:
        print_table((*columns, *counts), counted)
        print()
        rows = [[*key, *row] for key, (_, line) in zip(keys, lines, strict=True) for row in _metric_rows(line, names)]
        print_table((*columns, "figure", "queries", "value", "95 % interval"), rows)
        return
    for row, (_, line) in zip(counted, lines, strict=True):
        rows.append([*row, *(_percent(line.metrics[name].value) for name in names)])
        rows.append([*([None] * len(row)), *(_interval(line.metrics[name]) for name in names)])
    print_table((*columns, *counts, *(name.replace("majority", "maj") for name in names)), rows)


def _count_columns(lines: list[Line]) -> dict[str, Callable[[Line], Any]]:
    """The columns of counts that have a value in some line."""
    columns: dict[str, Callable[[Line], Any]] = {
        "queries": lambda line: line.queries,
        "samples": lambda line: line.samples,
        "empty": lambda line: line.empty or None,
        "cut off": lambda line: None if line.truncated is None else f"{line.truncated:.1%}",
        "not judged": lambda line: line.unjudged or None,
    }
    return {name: count for name, count in columns.items() if any(count(line) is not None for line in lines)}


def _metric_rows(line: Line, names: list[str]) -> list[list[Any]]:
    """A row for each metric."""
    metrics = {name: line.metrics[name] for name in names}
    return [[name, metric.queries, _percent(metric.value), _interval(metric)] for name, metric in metrics.items()]


def _distinct_lines(grade: PolicyGrade) -> list[Line]:
    """The lines of a policy; with one dataset, without the means over datasets."""
    datasets = [line for line in grade.lines if line.dataset is not None]
    return datasets if len(datasets) == 1 else list(grade.lines)


def _is_accuracy(name: str, lines: list[Line]) -> bool:
    """Whether the metric is pass@1 and equals accuracy, as with the same number of samples for every query."""
    return name == "pass@1" and all(_close(line.metrics[name].value, line.metrics["accuracy"].value) for line in lines)


def _show_comparison(lines: tuple[ComparedLine, ...], first: str, second: str) -> None:
    several = sum(line.dataset is not None for line in lines) > 1
    pass_1_is_accuracy = all(
        _close(line.metrics[name].first, line.metrics["accuracy"].first)
        and _close(line.metrics[name].second, line.metrics["accuracy"].second)
        for line in lines
        for name in line.metrics.keys() & {"pass@1"}
    )
    print(f"\nfirst: {first}; second: {second}; on the queries that both have")
    rows: list[list[Any]] = []
    for line in lines:
        if line.dataset is None and not several:
            continue
        for name, metric in line.metrics.items():
            if name == "pass@1" and pass_1_is_accuracy:
                continue
            values = [_percent(value) for value in (metric.first, metric.second, metric.difference)]
            interval = None if metric.low is None else f"{_percent(metric.low)} to {_percent(metric.high)}"
            p = None if metric.p is None else f"{metric.p:.2g}"
            rows.append([line.dataset or f"all, {line.mean}", name, metric.queries, *values, interval, p])
    print_table(("dataset", "figure", "queries", "first", "second", "difference", "95 % interval", "p"), rows)


def _close(one: float | None, other: float | None) -> bool:
    """Whether two values are equal up to rounding."""
    return one == other or (one is not None and other is not None and math.isclose(one, other))


def _interval(metric: MetricValue) -> str | None:
    return None if metric.low is None else f"{_percent(metric.low)}–{_percent(metric.high)}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f}"
