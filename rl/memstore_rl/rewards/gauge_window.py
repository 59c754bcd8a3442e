"""What the gauge has seen in its latest steps, and the figures that follow from it.

A step is a step of a run. Groups without a step belong to a step of their own for each scored batch.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from memstore.types import QueryId
from memstore_gnn.monitoring.residual_gap import LEVEL, GroupGap, Interval, interval
from memstore_rl.rewards.gauge_reading import GaugeReading, StepFigures
from memstore_rl.rewards.majorities import Majorities
from memstore_rl.rewards.reward import Reward

StepKey: TypeAlias = tuple[str | None, int]
"""A run and its step, or None and the number of a batch."""

HISTORY = 2_000
"""Steps before those of the window whose figures are kept."""
NO_GAP = interval(np.zeros(0), np.zeros(0, np.int64))
"""The gap of no groups."""


@dataclass(frozen=True)
class ScoredGroup:
    """A scored group, as the gauge sees it."""

    query: QueryId
    step: StepKey
    answers: Sequence[str | None]
    """Canonical answer of each rollout; None: it has none, or answers of the domain are not compared."""
    rewards: Sequence[Reward]
    gap: GroupGap | None = None
    """None if the truth is not known or the group was not sampled."""
    audit: bool = False
    """Whether the group is of an audit query, which is not trained on."""


class _Judged(NamedTuple):
    query: QueryId
    gap: GroupGap
    audit: bool


@dataclass
class _Step:
    gap: Interval
    stopped: bool
    judged: list[_Judged] = field(default_factory=list)
    sources: Counter[str] = field(default_factory=Counter)
    groups: int = 0
    predicted: int = 0
    silent: int = 0
    flipped: int = 0
    compared: int = 0

    def figures(self, key: StepKey) -> StepFigures:
        return StepFigures(
            run=key[0],
            step=key[1],
            groups=self.groups,
            judged=len(self.judged),
            predicted=self.predicted,
            silent=self.silent,
            compared=self.compared,
            flipped=self.flipped,
            sources=dict(self.sources),
            gap=_known(self.gap.mean),
            gap_low=_known(self.gap.low),
            gap_high=_known(self.gap.high),
            gap_groups=self.gap.groups,
            stopped=self.stopped,
        )


class GaugeWindow:
    """The latest steps, in the order of their first group. Not thread-safe.

    Args:
        steps: number of steps.
        enough_audit: number of groups of audit queries from which a figure is of these alone.
    """

    def __init__(self, steps: int, enough_audit: int) -> None:
        self._limit = steps
        self._enough_audit = enough_audit
        self._steps: OrderedDict[StepKey, _Step] = OrderedDict()
        self._past: deque[StepFigures] = deque(maxlen=HISTORY)
        self._majorities = Majorities()

    def has_new(self, steps: Iterable[StepKey]) -> bool:
        """Whether one of these steps is not in the window."""
        return any(step not in self._steps for step in steps)

    def start(self, steps: Iterable[StepKey], gap: Interval = NO_GAP, *, stopped: bool = False) -> None:
        """Add the steps that are new, and drop the oldest beyond the limit.

        Args:
            gap: the gap by which it was decided whether they have predictions.
            stopped: whether their predictions are withheld.
        """
        for step in steps:
            self._steps.setdefault(step, _Step(gap, stopped))
        while len(self._steps) > self._limit:
            key, oldest = self._steps.popitem(last=False)
            self._past.append(oldest.figures(key))

    def history(self) -> list[StepFigures]:
        """Figures of each step: those of the window, and up to `HISTORY` before them."""
        return [*self._past, *(step.figures(key) for key, step in self._steps.items())]

    def add(self, group: ScoredGroup) -> None:
        """Add a group to its step."""
        step = self._steps.get(group.step)
        if step is None:  # more steps at a time than the window holds
            return
        if group.gap is not None:
            step.judged.append(_Judged(group.query, group.gap, group.audit))
        flips = self._majorities.flips(*group.step, group.query, group.answers)
        step.compared += flips is not None
        step.flipped += bool(flips)
        if group.audit:
            return
        step.groups += 1
        step.sources.update(reward.source for reward in group.rewards)
        if any(reward.source == "predicted" for reward in group.rewards):
            step.predicted += 1
            step.silent += group.rewards[0].silent

    @property
    def steps(self) -> int:
        """Number of steps in the window."""
        return len(self._steps)

    @property
    def judged(self) -> int:
        """Number of judged groups in the window."""
        return sum(len(step.judged) for step in self._steps.values())

    @property
    def predicts(self) -> bool:
        """Whether a group of the window that is trained on has predictions."""
        return any(step.predicted for step in self._steps.values())

    def latest(self) -> StepKey | None:
        """The step that began last."""
        return next(reversed(self._steps), None)

    def interval(self, *, after: StepKey | None = None, majority_wrong: bool = True, level: float = LEVEL) -> Interval:
        """Mean gap with its interval, over mixed groups; of audit queries alone where the window has enough of these.

        Labelled queries are no fair sample of the unlabelled ones, since the reward model has their labels.

        Args:
            after: only the steps that began after this one, if it is in the window.
            majority_wrong: only the groups whose majority is wrong.
            level: probability that the interval covers the mean.
        """
        keys = list(self._steps)
        start = keys.index(after) + 1 if after is not None and after in self._steps else 0
        judged = [
            (place, one)
            for place, key in enumerate(keys)
            for one in self._steps[key].judged
            if (one.gap.majority_wrong if majority_wrong else one.gap.mixed)
        ]
        audit_alone = sum(one.audit for _, one in judged) >= self._enough_audit
        chosen = [one for place, one in judged if place >= start and (one.audit or not audit_alone)]
        gaps = np.array([one.gap.gap for one in chosen], np.float64)
        return interval(gaps, np.array([one.query for one in chosen], dtype=object), level)

    def reading(self, *, harmful: bool, stopped: bool, withheld: int) -> GaugeReading:
        """Return the figures of the window."""
        steps = list(self._steps.values())
        judged = [one for step in steps for one in step.judged]
        wrong, mixed = self.interval(), self.interval(majority_wrong=False)
        aucs = [one.gap.auc for one in judged if one.gap.mixed]
        sources: Counter[str] = sum((step.sources for step in steps), Counter())
        rewards = sum(sources.values())
        return GaugeReading(
            steps=len(steps),
            groups=sum(step.groups for step in steps),
            judged=len(judged),
            audited=sum(one.audit for one in judged),
            gap=_known(wrong.mean),
            gap_low=_known(wrong.low),
            gap_high=_known(wrong.high),
            gap_groups=wrong.groups,
            mixed_gap=_known(mixed.mean),
            mixed_low=_known(mixed.low),
            mixed_high=_known(mixed.high),
            mixed_groups=mixed.groups,
            auc=float(np.mean(aucs)) if aucs else None,
            flip_share=_share(sum(step.flipped for step in steps), sum(step.compared for step in steps)),
            silent_share=_share(sum(step.silent for step in steps), sum(step.predicted for step in steps)),
            sources={source: count / rewards for source, count in sorted(sources.items())},
            harmful=harmful,
            stopped=stopped,
            withheld=withheld,
        )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
