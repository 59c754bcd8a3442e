"""Count samples by policy, dataset and query. Texts are dropped; a query keeps its answers' values and counts.

The same policy at another step or in another run counts as another policy; their samples are not pooled unless
requested. A sample that was not judged enters no metric and is counted as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from memstore.pipeline.stats import POSITIVE
from memstore.records.record import TRUNCATED
from memstore.text import canonical_answer
from memstore_rl.grade.estimators import AnswerVotes
from memstore_rl.grade.reader import RolloutSample
from memstore_rl.grade.verdicts import GradedReward


class PolicyKey(NamedTuple):
    """Identifies a graded policy: its name, with run and step if its rows have them."""

    policy: str
    run: str | None = None
    step: int | None = None

    @property
    def label(self) -> str:
        """The policy's name, followed by `@step` if it has a step."""
        return self.policy if self.step is None else f"{self.policy}@{self.step}"


@dataclass(slots=True)
class QueryCounts:
    """The judged samples of one query."""

    id: str
    """Id in a memory."""
    name: str
    """The source's key, or the id."""
    judged: int = 0
    correct: int = 0
    unanswered: int = 0
    """Judged samples without an answer."""
    answers: dict[str, list[int]] = field(default_factory=dict)
    """Canonical value -> [samples, correct samples]."""

    def votes(self) -> list[AnswerVotes]:
        """The votes of each answer."""
        return [AnswerVotes(samples, correct / samples) for samples, correct in self.answers.values()]


@dataclass(slots=True)
class DatasetCounts:
    """The samples of one policy on one dataset."""

    samples: int = 0
    by_source: Counter[str] = field(default_factory=Counter)
    """Judged samples by the source of their reward."""
    empty: int = 0
    """Samples without an answer."""
    with_finish_reason: int = 0
    truncated: int = 0
    """Truncated samples, of those with a finish reason."""
    queries: dict[str, QueryCounts] = field(default_factory=dict)

    @property
    def judged(self) -> int:
        """Number of judged samples."""
        return self.by_source.total()

    def add(self, sample: RolloutSample, graded: GradedReward) -> None:
        """Count one sample."""
        record = sample.record
        self.samples += 1
        self.empty += not record.answer.strip()
        self.with_finish_reason += record.finish_reason is not None
        self.truncated += record.finish_reason == TRUNCATED
        query = self.queries.setdefault(sample.query, QueryCounts(sample.query, record.key or sample.query))
        if graded.reward is None or graded.source is None:
            return
        correct = graded.reward > POSITIVE
        self.by_source[graded.source] += 1
        query.judged += 1
        query.correct += correct
        if answer := record.answer.strip():
            # As in a memory, an answer without a canonical value is its own value.
            value = canonical_answer(record.answer, sample.domain, record.query).value or answer
            votes = query.answers.setdefault(value, [0, 0])
            votes[0] += 1
            votes[1] += correct
        else:
            query.unanswered += 1


PolicyCounts = dict[PolicyKey, dict[str, DatasetCounts]]


@dataclass
class SampleCounts:
    """All counts of one side of a comparison."""

    pooled: PolicyKey | None = None
    """Policy to which all samples are assigned; None: each sample counts for its own policy."""
    policies: PolicyCounts = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why samples were not judged."""
    fractional: int = 0
    """Judged samples whose reward is neither 0 nor 1."""

    def add(self, samples: Iterable[tuple[RolloutSample, GradedReward]]) -> None:
        """Count samples."""
        for sample, graded in samples:
            record = sample.record
            policy = self.pooled or PolicyKey(record.policy, record.run, record.step)
            self.policies.setdefault(policy, {}).setdefault(record.dataset, DatasetCounts()).add(sample, graded)
            if graded.reason is not None:
                self.reasons[graded.reason] += 1
            self.fractional += graded.reward not in (None, 0.0, 1.0)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return sum(counts.samples for datasets in self.policies.values() for counts in datasets.values())

    @property
    def judged(self) -> int:
        """Number of judged samples."""
        return sum(counts.judged for datasets in self.policies.values() for counts in datasets.values())

    def query_sizes(self) -> list[int]:
        """Number of judged samples of each query that has any, per policy."""
        datasets = [counts for own in self.policies.values() for counts in own.values()]
        return [query.judged for counts in datasets for query in counts.queries.values() if query.judged]
