"""The notes of a report: samples, rows and queries that are left out, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memstore_rl.grade.counts import SampleCounts
from memstore_rl.grade.reader import RolloutReader
from memstore_rl.grade.report import ComparedLine, PolicyGrade

_MAX_NAMED = 3
"""Reasons or queries that a sentence names."""


def notes_on_samples(counts: SampleCounts, reader: RolloutReader, files: str) -> Iterator[str]:
    """Notes on the rows and samples of one side.

    Args:
        files: names of the files, for the sentences.
    """
    unjudged = counts.samples - counts.judged
    if unjudged:
        reasons = "; ".join(f"{reason} ({number:,})" for reason, number in counts.reasons.most_common(_MAX_NAMED))
        rest = len(counts.reasons) - _MAX_NAMED
        more = f"; and {rest:,} other reasons" if rest > 0 else ""
        yield f"{unjudged:,} of {counts.samples:,} samples of {files} were not judged and are left out: {reasons}{more}"
    if counts.fractional:
        yield f"{counts.fractional:,} rewards of {files} are between 0 and 1; a sample counts as correct above 0.5"
    if reader.rejected:
        examples = "; ".join(reader.reject_examples)
        yield f"{reader.rejected:,} of {reader.rows:,} rows of {files} are not rollouts and were left out: {examples}"
    if reader.repeated:
        yield f"{reader.repeated:,} rows of {files} repeat an earlier rollout and count once"


def notes_on_gaps(grades: Sequence[PolicyGrade]) -> Iterator[str]:
    """Notes on queries with too few samples for a metric at k."""
    for grade in grades:
        for gap in grade.gaps:
            where = f"{grade.policy.label} on {gap.dataset}" if len(grades) > 1 else gap.dataset
            if gap.queries == gap.of:
                yield f"no query of {where} has {gap.k} judged samples, so there are no figures at {gap.k}"
                continue
            named = ", ".join(gap.names[:_MAX_NAMED]) + (", …" if gap.queries > _MAX_NAMED else "")
            yield (
                f"{gap.queries:,} of {gap.of:,} queries of {where} have fewer than {gap.k} judged samples and are left "
                f"out at {gap.k}: {named}"
            )


def notes_on_comparison(lines: Sequence[ComparedLine]) -> Iterator[str]:
    """Notes on queries that only one policy has."""
    for line in lines:
        if line.dataset is not None and (line.only_first or line.only_second):
            yield (
                f"{line.dataset}: {line.queries:,} queries compared; left out: {line.only_first:,} of the first policy "
                f"alone and {line.only_second:,} of the second alone"
            )
