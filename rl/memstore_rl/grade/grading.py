"""From files of rollouts to a report, a block of rows at a time: memory grows with queries, and not with texts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from memstore.errors import InputError
from memstore.progress import Progress, Silent
from memstore.records.record import Record, RecordDefaults
from memstore_gnn.scoring.output_file import check_output
from memstore_rl.grade.compare import difference, paired
from memstore_rl.grade.counts import Count, DatasetTally, Subject, Tallies
from memstore_rl.grade.figures import stratum_of
from memstore_rl.grade.notes import notes_of, notes_of_comparison, notes_of_gaps
from memstore_rl.grade.reading import Reading
from memstore_rl.grade.report import ComparedLine, PolicyGrade, Report, compared_lines, grade_of
from memstore_rl.grade.sample_lines import SampleLines
from memstore_rl.grade.verdicts import RewardsFrom, judge
from memstore_rl.verifiers import Verifiers, standard_verifiers

_NAMED = 3
"""Policies that an error names."""


@dataclass(frozen=True)
class GradeOptions:
    """How rollouts are graded."""

    ks: tuple[int, ...] = ()
    """For pass@k and majority@k; none: 1, and as many samples as at least half of the queries have."""
    rewards: RewardsFrom | None = None
    """Whose word counts, see `verdicts`."""
    policy: str | None = None
    """Grade this policy only: its name, or its name@step; None: all, each by itself."""
    against_policy: str | None = None
    """The same, for the files that are compared with."""
    pool: bool = False
    """Take all samples for those of one policy."""
    defaults: RecordDefaults = field(default_factory=RecordDefaults)
    seed: int = 0
    """Of what is drawn for intervals and p-values."""


def grade_files(
    files: Sequence[str | Path],
    options: GradeOptions | None = None,
    *,
    against: Sequence[str | Path] = (),
    verifiers: Verifiers | None = None,
    samples: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Grade the rollouts of files; with `against`, compare their policy with that of others on the same queries.

    Args:
        verifiers: who judges; None: the standard ones, which run no programs. They are left open.
        samples: where each graded sample of `files` is written, see `sample_lines`.

    Raises:
        InputError: a file cannot be read, nothing in it can be judged, a side of a comparison has several policies, or
            the two have no query in common; or `samples` cannot be written.
    """
    options = options or GradeOptions()
    check_output(samples, "samples", [*files, *against])
    if verifiers is None:
        with closing(standard_verifiers()) as standard:
            return _graded(_Job(options, standard, progress or Silent()), files, against, samples)
    return _graded(_Job(options, verifiers, progress or Silent()), files, against, samples)


class _Job(NamedTuple):
    options: GradeOptions
    verifiers: Verifiers
    progress: Progress

    def side(self, files: Sequence[str | Path], policy: str | None, samples: Path | None) -> _Side:
        """Read, judge and count the files of one side."""
        options, reading = self.options, Reading()
        where = ", ".join(Path(file).name for file in files)
        count = Count(Subject(f"all of {where}") if options.pool else None)

        def wanted(record: Record) -> bool:
            return policy is None or policy in (record.policy, Subject(record.policy, None, record.step).label)

        with SampleLines(samples) as lines:
            for block in reading.blocks(files, options.defaults, self.progress, wanted):
                records, domains = [sample.record for sample in block], [sample.domain for sample in block]
                graded = judge(records, domains, self.verifiers, options.rewards)
                pairs = list(zip(block, graded, strict=True))
                count.add(pairs)
                lines.add(pairs)
            side = _Side(where, count, reading)
            side.check(policy, options)
        return side


@dataclass(frozen=True)
class _Side:
    """What was counted of some files."""

    where: str
    count: Count
    reading: Reading

    def check(self, policy: str | None, options: GradeOptions) -> None:
        """Is there anything to tell?"""
        if self.count.judged:
            return
        if self.reading.rejected == self.reading.rows:
            raise InputError(f"no row of {self.where} is a rollout: {self.reading.reject_examples[0]}")
        if not self.count.samples:
            raise InputError(f"{self.where} holds no rollout of policy {policy!r}; see the policies without --policy")
        [(reason, samples)] = self.count.reasons.most_common(1)
        raise InputError(
            f"none of the {self.count.samples:,} samples of {self.where} can be judged: {reason} ({samples:,})"
            f"{_help(self, options)}"
        )

    def only(self, option: str) -> tuple[Subject, dict[str, DatasetTally]]:
        """The one policy of a side that is compared.

        Raises:
            InputError: there are several.
        """
        tallies = self.count.tallies
        if len(tallies) > 1:
            labels = sorted({f"{s.label} of run {s.run}" if s.run else s.label for s in tallies})
            named = ", ".join(labels[:_NAMED]) + (", …" if len(labels) > _NAMED else "")
            raise InputError(
                f"{self.where} holds {len(tallies)} policies ({named}) and a comparison is of one; choose it with "
                f"{option}, or take all samples for one policy's with --pool"
            )
        return next(iter(tallies.items()))


def _help(side: _Side, options: GradeOptions) -> str:
    if any("programs are not run" in reason for reason in side.count.reasons):
        return "; run them with --code, or take the file's own rewards with --rewards file"
    if options.rewards is not None:
        return f"; leave --rewards {options.rewards} out, or add what is missing to the rows"
    return "; add gold or reward to the rows, or take the file's own rewards with --rewards file"


def _graded(job: _Job, files: Sequence[str | Path], against: Sequence[str | Path], samples: Path | None) -> Report:
    options = job.options
    first = job.side(files, options.policy, samples)
    second = job.side(against, options.against_policy, None) if against else None
    chosen = (first.only("--policy"), second.only("--against-policy")) if second is not None else None
    sides = [first] if second is None else [first, second]
    ks = tuple(sorted(set(options.ks))) or _usual_ks([side.count for side in sides])
    job.progress.stage("estimate")
    grades = [
        grade_of(subject, first.count.tallies[subject], ks, options.seed) for subject in _in_order(first.count.tallies)
    ]
    other = None if chosen is None else grade_of(*chosen[1], ks, options.seed)
    comparison = None if chosen is None else _compared(chosen[0][1], chosen[1][1], sides, ks, options.seed)
    return Report(
        grades=tuple(grades),
        against=other,
        comparison=comparison,
        ks=ks,
        seed=options.seed,
        rows=sum(side.reading.rows for side in sides),
        rejected=sum(side.reading.rejected for side in sides),
        reject_examples=[example for side in sides for example in side.reading.reject_examples],
        repeated=sum(side.reading.repeated for side in sides),
        reasons=dict(sum((side.count.reasons for side in sides), start=type(first.count.reasons)()).most_common()),
        notes=_notes(sides, [*grades, *([other] if other else [])], comparison),
    )


def _in_order(tallies: Tallies) -> list[Subject]:
    return sorted(tallies, key=lambda s: (s.policy, s.run or "", -1 if s.step is None else s.step))


def _usual_ks(counts: Sequence[Count]) -> tuple[int, ...]:
    """1, and as many samples as at least half of the queries have, on either side."""
    return tuple(sorted({1, min(statistics.median_low(count.query_sizes()) for count in counts)}))


def _compared(
    first: dict[str, DatasetTally],
    second: dict[str, DatasetTally],
    sides: Sequence[_Side],
    ks: tuple[int, ...],
    seed: int,
) -> tuple[ComparedLine, ...]:
    pairs = []
    for name in sorted({*first, *second}):
        own, other = (side.get(name, DatasetTally()).queries.values() for side in (first, second))
        pairs.append(paired(stratum_of(name, list(own), ks), stratum_of(name, list(other), ks)))
    if not any(pair.first.queries for pair in pairs):
        raise InputError(
            f"{sides[0].where} and {sides[1].where} have no judged query in common, so there is nothing to compare; a "
            "query is the same where dataset, query_id and text are"
        )
    return compared_lines(pairs, difference(pairs, seed=seed), ks)


def _notes(
    sides: Sequence[_Side], grades: Sequence[PolicyGrade], comparison: tuple[ComparedLine, ...] | None
) -> list[str]:
    notes = [note for side in sides for note in notes_of(side.count, side.reading, side.where)]
    return [*notes, *notes_of_gaps(grades), *notes_of_comparison(comparison or ())]
