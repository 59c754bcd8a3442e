"""What is counted: by policy, then dataset, then query. Texts are let go; a query keeps its answers' values and counts.

A policy at a step of its training is another policy, and so is one of another run: their samples are not pooled unless
that is asked for. A sample that was not judged counts in no figure, and is counted as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from memstore.pipeline.stats import POSITIVE
from memstore.records.record import TRUNCATED
from memstore.text import canonical_answer
from memstore_rl.grade.estimates import Vote
from memstore_rl.grade.reading import Sample
from memstore_rl.grade.verdicts import Graded


class Subject(NamedTuple):
    """Who is graded: a policy, at a step of a run where its rows say so."""

    policy: str
    run: str | None = None
    step: int | None = None

    @property
    def label(self) -> str:
        """The policy's name, with its step where it has one."""
        return self.policy if self.step is None else f"{self.policy}@{self.step}"


@dataclass(slots=True)
class QueryTally:
    """The judged samples of one query."""

    id: str
    """In a memory."""
    name: str
    """The source's key, or the id."""
    judged: int = 0
    right: int = 0
    silent: int = 0
    """Judged samples without an answer."""
    answers: dict[str, list[int]] = field(default_factory=dict)
    """Canonical value -> how many gave it, how many of these are right."""

    def votes(self) -> list[Vote]:
        """The answers as they vote."""
        return [Vote(given, right / given) for given, right in self.answers.values()]


@dataclass(slots=True)
class DatasetTally:
    """One policy on one dataset."""

    samples: int = 0
    by_source: Counter[str] = field(default_factory=Counter)
    """Judged samples by who judged them."""
    empty: int = 0
    """Samples in which no answer was read."""
    told: int = 0
    """Samples whose row says how they ended."""
    truncated: int = 0
    """Of these, the ones that were cut off."""
    queries: dict[str, QueryTally] = field(default_factory=dict)

    @property
    def judged(self) -> int:
        """Samples that count."""
        return self.by_source.total()

    def add(self, sample: Sample, graded: Graded) -> None:
        """Count one sample."""
        record = sample.record
        self.samples += 1
        self.empty += not record.answer.strip()
        self.told += record.finish_reason is not None
        self.truncated += record.finish_reason == TRUNCATED
        query = self.queries.setdefault(sample.query, QueryTally(sample.query, record.key or sample.query))
        if graded.reward is None or graded.source is None:
            return
        right = graded.reward > POSITIVE
        self.by_source[graded.source] += 1
        query.judged += 1
        query.right += right
        if written := record.answer.strip():
            # As in a memory: an answer without a canonical value votes for itself.
            value = canonical_answer(record.answer, sample.domain, record.query).value or written
            votes = query.answers.setdefault(value, [0, 0])
            votes[0] += 1
            votes[1] += right
        else:
            query.silent += 1


Tallies = dict[Subject, dict[str, DatasetTally]]


@dataclass
class Count:
    """Everything that was counted on one side."""

    pooled: Subject | None = None
    """Whose all samples are; None: each is its own policy's."""
    tallies: Tallies = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why samples were not judged."""
    between: int = 0
    """Judged samples whose reward is neither 0 nor 1."""

    def add(self, samples: Iterable[tuple[Sample, Graded]]) -> None:
        """Count samples."""
        for sample, graded in samples:
            record = sample.record
            subject = self.pooled or Subject(record.policy, record.run, record.step)
            self.tallies.setdefault(subject, {}).setdefault(record.dataset, DatasetTally()).add(sample, graded)
            if graded.reason is not None:
                self.reasons[graded.reason] += 1
            self.between += graded.reward not in (None, 0.0, 1.0)

    @property
    def samples(self) -> int:
        """All of them."""
        return sum(tally.samples for datasets in self.tallies.values() for tally in datasets.values())

    @property
    def judged(self) -> int:
        """Those that count."""
        return sum(tally.judged for datasets in self.tallies.values() for tally in datasets.values())

    def query_sizes(self) -> list[int]:
        """Judged samples of each query that has one, for each policy."""
        datasets = [tally for own in self.tallies.values() for tally in own.values()]
        return [query.judged for tally in datasets for query in tally.queries.values() if query.judged]
