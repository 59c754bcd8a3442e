"""`memstore grade`: a policy's score from its rollouts."""

from __future__ import annotations

import math
from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memstore_cli.options import DatasetOption, DomainOption, JsonOption, RewardColumnOption, UsageError
from memstore_cli.output import print_json, print_table
from memstore_cli.progress import watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from memstore_rl.grade.report import ComparedLine, Figure, Line, PolicyGrade, Report


WIDE = 5
"""Figures that stand side by side; more stand below each other."""


class Rewards(StrEnum):
    """Whose word counts, as `memstore_rl.grade.verdicts` has it."""

    FILE = "file"
    VERIFIER = "verifier"


def grade(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Rollouts: JSONL, gzip or Parquet, verl's dumps, TRL's; - reads."),
    ],
    k: Annotated[
        list[int] | None,
        typer.Option("--k", "-k", min=1, show_default="1, n", help="pass@k and majority@k of this k; may repeat."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", metavar="FILE", show_default=False, help="Compare with another policy's rollouts."),
    ] = None,
    rewards: Annotated[
        Rewards | None,
        typer.Option("--rewards", show_default=False, help="Whose word counts; else the file's only without gold."),
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="Judge programs by running them in the sandbox.")] = False,
    policy: Annotated[
        str | None,
        typer.Option("--policy", metavar="NAME", show_default=False, help="Grade this policy only; NAME or NAME@STEP."),
    ] = None,
    against_policy: Annotated[
        str | None,
        typer.Option("--against-policy", metavar="NAME", show_default=False, help="The same for --against."),
    ] = None,
    pool: Annotated[bool, typer.Option("--pool", help="Take all samples for those of one policy.")] = False,
    dataset: DatasetOption = None,
    domain: DomainOption = None,
    reward_column: RewardColumnOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn for intervals and p-values.")] = 0,
    samples: Annotated[
        Path | None,
        typer.Option("--samples", metavar="FILE", show_default=False, help="Write a JSON line for each sample."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", show_default=False, help="Draw the figures into a .png, .svg or .pdf."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Score policies by their rollouts: accuracy, pass@k and majority@k, with 95 % intervals.

    Answers are held against their gold by the verifiers; what cannot be judged is counted and in no figure.
    """
    if against_policy is not None and not against:
        raise UsageError("--against-policy chooses among the policies of --against; name that file, too")
    from memstore.records.record import RecordDefaults
    from memstore_rl.grade import GradeOptions, grade_files
    from memstore_rl.grade.plots import check_plot, draw
    from memstore_rl.verifiers import make_verifiers

    check_plot(plot)
    options = GradeOptions(
        ks=tuple(k or ()),
        rewards=rewards.value if rewards else None,
        policy=policy,
        against_policy=against_policy,
        pool=pool,
        defaults=RecordDefaults(dataset=dataset, domain=domain.value if domain else None, reward_column=reward_column),
        seed=seed,
    )
    with closing(make_verifiers(code=code)) as verifiers, watched(as_json) as progress:
        report = grade_files(
            files, options, against=against or (), verifiers=verifiers, samples=samples, progress=progress
        )
    if plot is not None:
        draw(report, plot)
    if as_json:
        print_json(report.as_json())
    else:
        show_report(report)


def show_report(report: Report) -> None:
    """Print the figures of each policy, the comparison, and the notes."""
    _show_grades([*report.grades, *([report.against] if report.against else [])])
    if report.comparison is not None and report.against is not None:
        _show_comparison(report.comparison, report.grades[0].subject.label, report.against.subject.label)
    for note in report.notes:
        print(note)


def _show_grades(grades: list[PolicyGrade]) -> None:
    """Counts and figures of every line; columns that are empty are left out."""
    lines = [(grade, line) for grade in grades for line in _told(grade)]
    runs = len({grade.subject.run for grade in grades}) > 1
    who = ("policy", *(("run",) if runs else ()), "dataset")
    counts: dict[str, Callable[[Line], Any]] = {
        "queries": lambda line: line.queries,
        "samples": lambda line: line.samples,
        "empty": lambda line: line.empty or None,
        "cut off": lambda line: None if line.truncated is None else f"{line.truncated:.1%}",
        "not judged": lambda line: line.unjudged or None,
    }
    counts = {name: of for name, of in counts.items() if any(of(line) is not None for _, line in lines)}
    names = [name for name in lines[0][1].figures if not _is_accuracy(name, [line for _, line in lines])]
    heads = [[g.subject.label, *([g.subject.run] if runs else []), ln.dataset or f"all, {ln.mean}"] for g, ln in lines]
    told = [[*head, *(of(line) for of in counts.values())] for head, (_, line) in zip(heads, lines, strict=True)]
    if len(names) > WIDE:
        print_table((*who, *counts), told)
        print()
        rows = [[*head, *row] for head, (_, line) in zip(heads, lines, strict=True) for row in _tall(line, names)]
        print_table((*who, "figure", "queries", "value", "95 % interval"), rows)
        return
    rows = []
    for row, (_, line) in zip(told, lines, strict=True):
        rows.append([*row, *(_percent(line.figures[name].value) for name in names)])
        rows.append([*([None] * len(row)), *(_interval(line.figures[name]) for name in names)])
    print_table((*who, *counts, *(name.replace("majority", "maj") for name in names)), rows)


def _tall(line: Line, names: list[str]) -> list[list[Any]]:
    """A row for each figure."""
    figures = {name: line.figures[name] for name in names}
    return [[name, f.queries, _percent(f.value), _interval(f)] for name, f in figures.items()]


def _told(grade: PolicyGrade) -> list[Line]:
    """The lines that say something new: of one dataset, the means over datasets do not."""
    datasets = [line for line in grade.lines if line.dataset is not None]
    return datasets if len(datasets) == 1 else list(grade.lines)


def _is_accuracy(name: str, lines: list[Line]) -> bool:
    """Is it pass@1, and accuracy once more, as with as many samples of every query?"""
    return name == "pass@1" and all(_alike(line.figures[name].value, line.figures["accuracy"].value) for line in lines)


def _show_comparison(lines: tuple[ComparedLine, ...], first: str, second: str) -> None:
    several = sum(line.dataset is not None for line in lines) > 1
    once_more = all(
        _alike(line.figures[name].first, line.figures["accuracy"].first)
        and _alike(line.figures[name].second, line.figures["accuracy"].second)
        for line in lines
        for name in line.figures.keys() & {"pass@1"}
    )
    print(f"\nfirst: {first}; second: {second}; on the queries that both have")
    rows: list[list[Any]] = []
    for line in lines:
        if line.dataset is None and not several:
            continue
        for name, versus in line.figures.items():
            if name == "pass@1" and once_more:
                continue
            values = [_percent(value) for value in (versus.first, versus.second, versus.difference)]
            interval = None if versus.low is None else f"{_percent(versus.low)} to {_percent(versus.high)}"
            p = None if versus.p is None else f"{versus.p:.2g}"
            rows.append([line.dataset or f"all, {line.mean}", name, versus.queries, *values, interval, p])
    print_table(("dataset", "figure", "queries", "first", "second", "difference", "95 % interval", "p"), rows)


def _alike(one: float | None, other: float | None) -> bool:
    """Are they one figure but for rounding?"""
    return one == other or (one is not None and other is not None and math.isclose(one, other))


def _interval(figure: Figure) -> str | None:
    return None if figure.low is None else f"{_percent(figure.low)}–{_percent(figure.high)}"


def _percent(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f}"
