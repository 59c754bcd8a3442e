"""What a reader of the figures has to know beside them, one sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from memstore_rl.grade.counts import Count
from memstore_rl.grade.reading import Reading
from memstore_rl.grade.report import ComparedLine, PolicyGrade

_NAMED = 3
"""Things that a sentence names."""


def notes_of(count: Count, reading: Reading, where: str) -> Iterator[str]:
    """Of what was read on one side.

    Args:
        where: the files, as a sentence names them.
    """
    unjudged = count.samples - count.judged
    if unjudged:
        reasons = "; ".join(f"{reason} ({number:,})" for reason, number in count.reasons.most_common(_NAMED))
        rest = len(count.reasons) - _NAMED
        more = f"; and {rest:,} other reasons" if rest > 0 else ""
        yield f"{unjudged:,} of {count.samples:,} samples of {where} were not judged and count nowhere: {reasons}{more}"
    if count.between:
        yield f"{count.between:,} rewards of {where} lie between 0 and 1; a sample is right from above 0.5"
    if reading.rejected:
        examples = "; ".join(reading.reject_examples)
        yield f"{reading.rejected:,} of {reading.rows:,} rows of {where} are no rollouts and were left out: {examples}"
    if reading.repeated:
        yield f"{reading.repeated:,} rows of {where} repeat an earlier rollout and count once"


def notes_of_gaps(grades: Sequence[PolicyGrade]) -> Iterator[str]:
    """Of queries with too few samples for a figure at k."""
    for grade in grades:
        for gap in grade.gaps:
            who = f"{grade.subject.label} on {gap.dataset}" if len(grades) > 1 else gap.dataset
            if gap.queries == gap.of:
                yield f"no query of {who} has {gap.k} judged samples, so there are no figures at {gap.k}"
                continue
            named = ", ".join(gap.names[:_NAMED]) + (", …" if gap.queries > _NAMED else "")
            yield (
                f"{gap.queries:,} of {gap.of:,} queries of {who} have fewer than {gap.k} judged samples and are left "
                f"out at {gap.k}: {named}"
            )


def notes_of_comparison(lines: Sequence[ComparedLine]) -> Iterator[str]:
    """Of queries that only one side has."""
    for line in lines:
        if line.dataset is not None and (line.only_first or line.only_second):
            yield (
                f"{line.dataset}: {line.queries:,} queries compared; {line.only_first:,} that only the first policy "
                f"has and {line.only_second:,} that only the second has are left out"
            )
