"""Grade files of rollouts, block by block; memory use grows with the number of queries, not with the texts."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from memstore.errors import InputError
from memstore.progress import Progress, Silent
from memstore.records.readers import expand_paths
from memstore.records.record import Record, RecordDefaults
from memstore_gnn.scoring.output_file import check_output
from memstore_rl.grade.compare import difference, paired
from memstore_rl.grade.counts import DatasetCounts, PolicyCounts, PolicyKey, SampleCounts
from memstore_rl.grade.metrics import stratum_of
from memstore_rl.grade.reader import RolloutReader
from memstore_rl.grade.report import ComparedLine, PolicyGrade, Report, compared_lines, grade_of
from memstore_rl.grade.report_notes import notes_on_comparison, notes_on_gaps, notes_on_samples
from memstore_rl.grade.sample_writer import SampleWriter
from memstore_rl.grade.verdicts import RewardSource, judge
from memstore_rl.verifiers import Verifiers, standard_verifiers

_MAX_POLICIES_NAMED = 3
"""Policies that an error names."""


@dataclass(frozen=True)
class GradeOptions:
    """How rollouts are graded."""

    ks: tuple[int, ...] = ()
    """k of pass@k and majority@k; empty: 1, and the number of samples that at least half of the queries have."""
    rewards: RewardSource | None = None
    """The only source of rewards to use; None: see `verdicts`."""
    policy: str | None = None
    """Grade only this policy, given as name or name@step; None: grade each policy separately."""
    against_policy: str | None = None
    """The same for the files to compare with."""
    pool: bool = False
    """Treat all samples as those of one policy."""
    defaults: RecordDefaults = field(default_factory=RecordDefaults)
    seed: int = 0
    """Seed of the bootstrap and the permutation test."""


def grade_files(
    files: Sequence[str | Path],
    options: GradeOptions | None = None,
    *,
    against: Sequence[str | Path] = (),
    verifiers: Verifiers | None = None,
    samples: Path | None = None,
    progress: Progress | None = None,
) -> Report:
    """Grade the rollouts of files; with `against`, compare their policy with another on the same queries.

    Args:
        verifiers: the verifiers to use, which are not closed; None: the standard ones, which do not run programs.
        samples: file for the graded samples of `files`, see `sample_writer`.

    Raises:
        InputError: a file cannot be read, no sample can be judged, a side of a comparison has several policies, the two
            sides have no query in common, or `samples` cannot be written.
    """
    options = options or GradeOptions()
    files, against = expand_paths(files), expand_paths(against)
    check_output(samples, "samples", [*files, *against])
    if verifiers is None:
        with closing(standard_verifiers()) as standard:
            return _grade(_Job(options, standard, progress or Silent()), files, against, samples)
    return _grade(_Job(options, verifiers, progress or Silent()), files, against, samples)


class _Job(NamedTuple):
    """What grading both sides needs."""

    options: GradeOptions
    verifiers: Verifiers
    progress: Progress

    def side(self, files: Sequence[str | Path], policy: str | None, samples: Path | None) -> _Side:
        """Read, judge and count the files of one side."""
        options, reader = self.options, RolloutReader()
        names = ", ".join(Path(file).name for file in files)
        counts = SampleCounts(PolicyKey(f"all of {names}") if options.pool else None)

        def is_wanted(record: Record) -> bool:
            return policy is None or policy in (record.policy, PolicyKey(record.policy, None, record.step).label)

        with SampleWriter(samples) as writer:
            for block in reader.blocks(files, options.defaults, self.progress, is_wanted):
                records, domains = [sample.record for sample in block], [sample.domain for sample in block]
                graded = judge(records, domains, self.verifiers, options.rewards)
                pairs = list(zip(block, graded, strict=True))
                counts.add(pairs)
                writer.add(pairs)
            side = _Side(names, counts, reader)
            side.check(policy, options, written=samples is not None)
        return side


@dataclass(frozen=True)
class _Side:
    """The counts of the files on one side of a comparison."""

    files: str
    counts: SampleCounts
    reader: RolloutReader

    def check(self, policy: str | None, options: GradeOptions, *, written: bool) -> None:
        """Check that at least one sample was judged.

        Args:
            written: the samples are written to a file, which has the reason of each one that was not judged.

        Raises:
            InputError: none was.
        """
        if self.counts.judged:
            return
        if self.reader.rejected == self.reader.rows:
            raise InputError(f"{self.files} contains no rollouts: {self.reader.reject_examples[0]}")
        if not self.counts.samples:
            raise InputError(
                f"{self.files} has no rollout of policy {policy!r}; leave out --policy to see the policies"
            )
        if written:
            return
        raise InputError(f"{self.unjudged()}{_hint(self, options)}")

    def unjudged(self) -> str:
        """Why none of the samples was judged."""
        [(reason, samples)] = self.counts.reasons.most_common(1)
        return (
            f"none of the {self.counts.samples:,} samples of {self.files} has a response that can be judged: {reason} "
            f"({samples:,})"
        )

    def single_policy(self, option: str) -> tuple[PolicyKey, dict[str, DatasetCounts]]:
        """The policy to compare.

        Args:
            option: the command-line option that selects it, for the error.

        Raises:
            InputError: there are several policies.
        """
        policies = self.counts.policies
        if len(policies) > 1:
            labels = sorted({f"{key.label} of run {key.run}" if key.run else key.label for key in policies})
            named = ", ".join(labels[:_MAX_POLICIES_NAMED]) + (", …" if len(labels) > _MAX_POLICIES_NAMED else "")
            raise InputError(
                f"{self.files} holds {len(policies)} policies ({named}), and a comparison needs one; select it with "
                f"{option}, or treat all samples as one policy's with --pool"
            )
        return next(iter(policies.items()))


def _hint(side: _Side, options: GradeOptions) -> str:
    """What to do if no sample could be judged."""
    if any("programs are not run" in reason for reason in side.counts.reasons):
        return "; run them with --code, or use the file's rewards with --rewards file"
    if options.rewards is not None:
        return f"; leave out --rewards {options.rewards}, or add what is missing to the rows"
    return "; add gold or reward to the rows, or use the file's rewards with --rewards file"


def _grade(job: _Job, files: Sequence[str | Path], against: Sequence[str | Path], samples: Path | None) -> Report:
    options = job.options
    first = job.side(files, options.policy, samples)
    second = job.side(against, options.against_policy, None) if against else None
    if not first.counts.judged:
        return _without_grades(first, options)
    compared = (first.single_policy("--policy"), second.single_policy("--against-policy")) if second else None
    sides = [first] if second is None else [first, second]
    ks = tuple(sorted(set(options.ks))) or _default_ks([side.counts for side in sides])
    job.progress.stage("estimate")
    policies = first.counts.policies
    grades = [grade_of(key, policies[key], ks, options.seed) for key in _sorted_keys(policies)]
    other = None if compared is None else grade_of(*compared[1], ks, options.seed)
    comparison = None if compared is None else _compare(compared[0][1], compared[1][1], sides, ks, options.seed)
    return Report(
        grades=tuple(grades),
        against=other,
        comparison=comparison,
        ks=ks,
        seed=options.seed,
        rows=sum(side.reader.rows for side in sides),
        rejected=sum(side.reader.rejected for side in sides),
        reject_examples=[example for side in sides for example in side.reader.reject_examples],
        repeated=sum(side.reader.repeated for side in sides),
        reasons=dict(sum((side.counts.reasons for side in sides), start=Counter[str]()).most_common()),
        notes=_notes(sides, [*grades, *([other] if other else [])], comparison),
    )


def _without_grades(side: _Side, options: GradeOptions) -> Report:
    """The report of files without a judged sample, whose samples have the reasons."""
    return Report(
        grades=(),
        against=None,
        comparison=None,
        ks=(),
        seed=options.seed,
        rows=side.reader.rows,
        rejected=side.reader.rejected,
        reject_examples=list(side.reader.reject_examples),
        repeated=side.reader.repeated,
        reasons=dict(side.counts.reasons.most_common()),
        notes=[side.unjudged()],
    )


def _sorted_keys(policies: PolicyCounts) -> list[PolicyKey]:
    return sorted(policies, key=lambda key: (key.policy, key.run or "", -1 if key.step is None else key.step))


def _default_ks(counts: Sequence[SampleCounts]) -> tuple[int, ...]:
    """1, and the number of samples that at least half of the queries have on either side."""
    return tuple(sorted({1, min(statistics.median_low(each.query_sizes()) for each in counts)}))


def _compare(
    first: dict[str, DatasetCounts],
    second: dict[str, DatasetCounts],
    sides: Sequence[_Side],
    ks: tuple[int, ...],
    seed: int,
) -> tuple[ComparedLine, ...]:
    pairs = []
    for name in sorted({*first, *second}):
        own, other = (side.get(name, DatasetCounts()).queries.values() for side in (first, second))
        pairs.append(paired(stratum_of(name, list(own), ks), stratum_of(name, list(other), ks)))
    if not any(pair.first.queries for pair in pairs):
        raise InputError(
            f"{sides[0].files} and {sides[1].files} have no judged query in common, so they cannot be compared; "
            "queries are the same if their datasets and texts are equal"
        )
    return compared_lines(pairs, difference(pairs, seed=seed), ks)


def _notes(
    sides: Sequence[_Side], grades: Sequence[PolicyGrade], comparison: tuple[ComparedLine, ...] | None
) -> list[str]:
    notes = [note for side in sides for note in notes_on_samples(side.counts, side.reader, side.files)]
    return [*notes, *notes_on_gaps(grades), *notes_on_comparison(comparison or ())]
