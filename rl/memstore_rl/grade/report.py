"""The report of graded rollouts: a line per dataset and two over datasets, a comparison, and notes.

`as_json` has the keys that docs/grade.md documents; there a metric is called a figure. A metric that cannot be computed
is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from memstore_rl.grade.compare import Difference, PairedDataset
from memstore_rl.grade.counts import DatasetCounts, PolicyKey
from memstore_rl.grade.intervals import CONFIDENCE, DRAWS, bootstrap
from memstore_rl.grade.metrics import Stratum, metric_names, ratios, stratum_of, totals

MEANS: tuple[Literal["weighted", "macro"], ...] = ("weighted", "macro")
_MAX_QUERIES_NAMED = 100
"""Queries that a gap lists by name."""


@dataclass(frozen=True)
class MetricValue:
    """A metric with its interval."""

    value: float | None
    low: float | None
    high: float | None
    queries: int
    """Number of queries that have the metric."""


@dataclass(frozen=True)
class Line:
    """A policy on one dataset, or over its datasets."""

    dataset: str | None
    """None: over datasets."""
    mean: Literal["weighted", "macro"] | None
    """The mean over datasets; None for one dataset."""
    queries: int
    samples: int
    verifier: int
    """Samples judged by a verifier."""
    file: int
    """Samples with the file's reward."""
    unjudged: int
    """Samples without a reward; they enter no metric."""
    empty: int
    """Samples without an answer."""
    truncated: float | None
    """Share of truncated samples among those with a finish reason; None if there are none."""
    metrics: dict[str, MetricValue]


@dataclass(frozen=True)
class Gap:
    """Queries without a metric at k."""

    dataset: str
    k: int
    queries: int
    """Number of queries with at least one but fewer than k judged samples."""
    of: int
    """Number of queries with a judged sample."""
    names: tuple[str, ...]
    """The first of these queries, at most a hundred."""


@dataclass(frozen=True)
class PolicyGrade:
    """The lines of one policy: its datasets by name, then weighted, then macro."""

    policy: PolicyKey
    lines: tuple[Line, ...]
    gaps: tuple[Gap, ...]

    def as_json(self) -> dict[str, Any]:
        """The policy's entry in the JSON document."""
        return {**self.policy._asdict(), "lines": _lines_json(self.lines), "gaps": [asdict(gap) for gap in self.gaps]}


@dataclass(frozen=True)
class MetricComparison:
    """A metric of two policies on the queries that both have."""

    first: float | None
    second: float | None
    difference: float | None
    """The first minus the second."""
    low: float | None
    high: float | None
    p: float | None
    queries: int


@dataclass(frozen=True)
class ComparedLine:
    """Two policies on one dataset, or over datasets."""

    dataset: str | None
    mean: Literal["weighted", "macro"] | None
    queries: int
    """Number of queries that both policies have."""
    only_first: int
    only_second: int
    metrics: dict[str, MetricComparison]


@dataclass(frozen=True)
class Report:
    """The result of `grade_files`."""

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
        """The JSON document of `memstore grade --json`."""
        return {
            "policies": [grade.as_json() for grade in self.grades],
            "against": None if self.against is None else self.against.as_json(),
            "comparison": None if self.comparison is None else _lines_json(self.comparison),
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


def _lines_json(lines: Sequence[Line | ComparedLine]) -> list[dict[str, Any]]:
    documents = [asdict(line) for line in lines]
    return [{("figures" if key == "metrics" else key): value for key, value in each.items()} for each in documents]


def grade_of(policy: PolicyKey, datasets: Mapping[str, DatasetCounts], ks: Sequence[int], seed: int) -> PolicyGrade:
    """Compute the lines of one policy."""
    names = sorted(datasets)
    strata = [stratum_of(name, list(datasets[name].queries.values()), ks) for name in names]
    value, intervals = ratios(*totals(strata)), bootstrap(strata, seed=seed)
    queries = queries_with_metric(strata)
    groups = [*([datasets[name]] for name in names), list(datasets.values()), list(datasets.values())]
    lines = []
    for row, group in enumerate(groups):
        metrics = {
            name: _metric_value(queries[row][f], value[row, f], intervals.low[row, f], intervals.high[row, f])
            for f, name in enumerate(metric_names(ks))
        }
        mean = MEANS[row - len(names)] if row >= len(names) else None
        lines.append(_line(None if mean else names[row], mean, group, metrics))
    gaps = [gap for name in names for gap in _gaps(name, datasets[name], ks)]
    return PolicyGrade(policy, tuple(lines), tuple(gaps))


def queries_with_metric(strata: Sequence[Stratum]) -> list[list[int]]:
    """Number of queries that have each metric: one row per dataset, then the total twice for the two means."""
    own = [[int(count) for count in (stratum.denominator > 0).sum(0)] for stratum in strata]
    total = [sum(column) for column in zip(*own, strict=True)]
    return [*own, total, total]


def _line(
    dataset: str | None,
    mean: Literal["weighted", "macro"] | None,
    group: Sequence[DatasetCounts],
    metrics: dict[str, MetricValue],
) -> Line:
    with_finish_reason = sum(counts.with_finish_reason for counts in group)
    return Line(
        dataset=dataset,
        mean=mean,
        queries=sum(len(counts.queries) for counts in group),
        samples=sum(counts.samples for counts in group),
        verifier=sum(counts.by_source["verifier"] for counts in group),
        file=sum(counts.by_source["file"] for counts in group),
        unjudged=sum(counts.samples - counts.judged for counts in group),
        empty=sum(counts.empty for counts in group),
        truncated=sum(counts.truncated for counts in group) / with_finish_reason if with_finish_reason else None,
        metrics=metrics,
    )


def _gaps(dataset: str, counts: DatasetCounts, ks: Sequence[int]) -> list[Gap]:
    judged = [query for query in counts.queries.values() if query.judged]
    gaps = []
    for k in ks:
        short = [query.name for query in judged if query.judged < k]
        if short:
            gaps.append(Gap(dataset, k, len(short), len(judged), tuple(short[:_MAX_QUERIES_NAMED])))
    return gaps


def compared_lines(
    pairs: Sequence[PairedDataset], difference: Difference, ks: Sequence[int]
) -> tuple[ComparedLine, ...]:
    """The lines of a comparison: datasets, weighted, macro."""
    queries = queries_with_metric([pair.first for pair in pairs])
    columns = (
        difference.first, difference.second, difference.value,
        difference.intervals.low, difference.intervals.high, difference.p,
    )  # fmt: skip
    lines = []
    for row, own in enumerate([*([pair] for pair in pairs), pairs, pairs]):
        metrics = {
            name: _metric_comparison([column[row, f] for column in columns], queries[row][f])
            for f, name in enumerate(metric_names(ks))
        }
        mean = MEANS[row - len(pairs)] if row >= len(pairs) else None
        common = sum(len(pair.first.queries) for pair in own)
        left_out = sum(pair.only_first for pair in own), sum(pair.only_second for pair in own)
        lines.append(ComparedLine(None if mean else pairs[row].first.dataset, mean, common, *left_out, metrics))
    return tuple(lines)


def _metric_value(queries: int, value: float, low: float, high: float) -> MetricValue:
    return MetricValue(_finite(value), _finite(low), _finite(high), queries)


def _metric_comparison(values: Sequence[float], queries: int) -> MetricComparison:
    first, second, difference, low, high, p = map(_finite, values)
    return MetricComparison(first, second, difference, low, high, p, queries)


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
