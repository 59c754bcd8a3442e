"""What is told of graded rollouts: a line a dataset and two over datasets, a comparison, and notes of what is left out.

`as_json` has the keys that docs/grade.md promises. A figure that cannot be had is null there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from memstore_rl.grade.compare import Difference, Pair
from memstore_rl.grade.counts import DatasetTally, Subject
from memstore_rl.grade.figures import Stratum, figure_names, ratios, stratum_of, totals
from memstore_rl.grade.intervals import CONFIDENCE, DRAWS, bootstrap

MEANS: tuple[Literal["weighted", "macro"], ...] = ("weighted", "macro")
_NAMED = 100
"""Queries that a gap lists by name."""


@dataclass(frozen=True)
class Figure:
    """A figure with its interval."""

    value: float | None
    low: float | None
    high: float | None
    queries: int
    """How many have it."""


@dataclass(frozen=True)
class Line:
    """A policy on a dataset, or over its datasets."""

    dataset: str | None
    """None over datasets."""
    mean: Literal["weighted", "macro"] | None
    """How it was taken over datasets; None for a dataset."""
    queries: int
    samples: int
    verifier: int
    """Samples that a verifier judged."""
    file: int
    """Samples whose reward is the file's."""
    unjudged: int
    """Samples without a reward; in no figure."""
    empty: int
    """Samples in which no answer was read."""
    truncated: float | None
    """Share that was cut off, of the samples that say how they ended; None where none does."""
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Gap:
    """Queries that cannot have a figure at k."""

    dataset: str
    k: int
    queries: int
    """How many have fewer than k judged samples, and at least one."""
    of: int
    names: tuple[str, ...]
    """The first of them, a hundred at most."""


@dataclass(frozen=True)
class PolicyGrade:
    """One policy's lines: its datasets by name, then weighted, then macro."""

    subject: Subject
    lines: tuple[Line, ...]
    gaps: tuple[Gap, ...]

    def as_json(self) -> dict[str, Any]:
        """As the document has it."""
        return {**self.subject._asdict(), "lines": [asdict(line) for line in self.lines], "gaps": _dicts(self.gaps)}


@dataclass(frozen=True)
class Versus:
    """A figure of two policies on the queries that both have."""

    first: float | None
    second: float | None
    difference: float | None
    """The first less the second."""
    low: float | None
    high: float | None
    p: float | None
    queries: int


@dataclass(frozen=True)
class ComparedLine:
    """Two policies on a dataset, or over datasets."""

    dataset: str | None
    mean: Literal["weighted", "macro"] | None
    queries: int
    """That both have."""
    only_first: int
    only_second: int
    figures: dict[str, Versus]


@dataclass(frozen=True)
class Report:
    """Everything that one run found."""

    grades: tuple[PolicyGrade, ...]
    against: PolicyGrade | None
    comparison: tuple[ComparedLine, ...] | None
    ks: tuple[int, ...]
    seed: int
    rows: int
    rejected: int
    reject_examples: list[str]
    repeated: int
    reasons: Mapping[str, int]
    """Why samples were not judged, most frequent first."""
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The promised document."""
        return {
            "policies": [grade.as_json() for grade in self.grades],
            "against": None if self.against is None else self.against.as_json(),
            "comparison": None if self.comparison is None else _dicts(self.comparison),
            "k": list(self.ks),
            "confidence": CONFIDENCE,
            "draws": DRAWS,
            "seed": self.seed,
            "rows": self.rows,
            "rejected": self.rejected,
            "reject_examples": self.reject_examples,
            "repeated": self.repeated,
            "unjudged": [{"reason": reason, "samples": samples} for reason, samples in self.reasons.items()],
            "notes": self.notes,
        }


def grade_of(subject: Subject, datasets: Mapping[str, DatasetTally], ks: Sequence[int], seed: int) -> PolicyGrade:
    """The lines of one policy."""
    names = sorted(datasets)
    strata = [stratum_of(name, list(datasets[name].queries.values()), ks) for name in names]
    value, spread = ratios(*totals(strata)), bootstrap(strata, seed=seed)
    having = having_figures(strata)
    groups = [*([datasets[name]] for name in names), list(datasets.values()), list(datasets.values())]
    lines = []
    for row, group in enumerate(groups):
        figures = {
            name: _figure(having[row][f], value[row, f], spread.low[row, f], spread.high[row, f])
            for f, name in enumerate(figure_names(ks))
        }
        mean = MEANS[row - len(names)] if row >= len(names) else None
        lines.append(_line(None if mean else names[row], mean, group, figures))
    gaps = [gap for name in names for gap in _gaps(name, datasets[name], ks)]
    return PolicyGrade(subject, tuple(lines), tuple(gaps))


def having_figures(strata: Sequence[Stratum]) -> list[list[int]]:
    """How many queries have each figure: a row a dataset, and twice that over datasets."""
    own = [[int(count) for count in (stratum.denominator > 0).sum(0)] for stratum in strata]
    everyone = [sum(column) for column in zip(*own, strict=True)]
    return [*own, everyone, everyone]


def _line(
    dataset: str | None,
    mean: Literal["weighted", "macro"] | None,
    group: Sequence[DatasetTally],
    figures: dict[str, Figure],
) -> Line:
    told = sum(tally.told for tally in group)
    return Line(
        dataset=dataset,
        mean=mean,
        queries=sum(len(tally.queries) for tally in group),
        samples=sum(tally.samples for tally in group),
        verifier=sum(tally.by_source["verifier"] for tally in group),
        file=sum(tally.by_source["file"] for tally in group),
        unjudged=sum(tally.samples - tally.judged for tally in group),
        empty=sum(tally.empty for tally in group),
        truncated=sum(tally.truncated for tally in group) / told if told else None,
        figures=figures,
    )


def _gaps(dataset: str, tally: DatasetTally, ks: Sequence[int]) -> list[Gap]:
    judged = [query for query in tally.queries.values() if query.judged]
    gaps = []
    for k in ks:
        short = [query.name for query in judged if query.judged < k]
        if short:
            gaps.append(Gap(dataset, k, len(short), len(judged), tuple(short[:_NAMED])))
    return gaps


def compared_lines(pairs: Sequence[Pair], difference: Difference, ks: Sequence[int]) -> tuple[ComparedLine, ...]:
    """The lines of a comparison: datasets, weighted, macro."""
    having = having_figures([pair.first for pair in pairs])
    columns = (
        difference.first, difference.second, difference.value,
        difference.spread.low, difference.spread.high, difference.p,
    )  # fmt: skip
    lines = []
    for row, own in enumerate([*([pair] for pair in pairs), pairs, pairs]):
        figures = {
            name: _versus(having[row][f], *(column[row, f] for column in columns))
            for f, name in enumerate(figure_names(ks))
        }
        mean = MEANS[row - len(pairs)] if row >= len(pairs) else None
        common = sum(len(pair.first.queries) for pair in own)
        left_out = sum(pair.only_first for pair in own), sum(pair.only_second for pair in own)
        lines.append(ComparedLine(None if mean else pairs[row].first.dataset, mean, common, *left_out, figures))
    return tuple(lines)


def _figure(queries: int, value: float, low: float, high: float) -> Figure:
    return Figure(_known(value), _known(low), _known(high), queries)


def _versus(queries: int, first: float, second: float, difference: float, low: float, high: float, p: float) -> Versus:
    return Versus(_known(first), _known(second), _known(difference), _known(low), _known(high), _known(p), queries)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _dicts(items: Sequence[Any]) -> list[dict[str, Any]]:
    return [asdict(item) for item in items]
