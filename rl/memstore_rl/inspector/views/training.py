"""A training that runs against the service: sources of rewards by step, the gauge, verifier calls, latency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from memstore_rl.inspector.charts import Band, Point
from memstore_rl.inspector.views.missing import NotThere
from memstore_rl.rewards.gauge_reading import GaugeReading, StepFigures
from memstore_rl.rewards.verdicts import VerdictCounts
from memstore_rl.service.live import LiveService
from memstore_rl.service.metrics import Spread, labelled_counts, spread

BINS = 60
"""Rows of a table of steps at most; steps beyond are put together."""

RunT = TypeVar("RunT")


@dataclass(frozen=True)
class StepRow:
    """Some consecutive steps of a run; a share or mean without data is None."""

    first: int
    last: int
    sources: Mapping[str, int]
    """Number of rewards by source."""
    flip_share: float | None
    """Share of the groups seen at an earlier step whose majority answer is another one now."""
    silent_share: float | None = None
    """Share of the predicted groups that get one reward."""
    gap: float | None = None
    gap_low: float | None = None
    gap_high: float | None = None
    gap_groups: int = 0
    """The gap with its interval, as the switch read it when the last of the steps began."""
    stopped: bool = False
    """Whether predictions were withheld in one of the steps."""
    reward: float | None = None
    """Mean ground truth."""
    predicted: float | None = None
    """Mean probability."""

    @property
    def steps(self) -> str:
        """The steps in words."""
        return str(self.first) if self.first == self.last else f"{self.first}–{self.last}"

    def share(self, source: str) -> float | None:
        """Share of the rewards with this source."""
        return share_of(self.sources.get(source, 0), sum(self.sources.values()))


@dataclass(frozen=True)
class LiveTraining:
    """A training that runs against a service."""

    info: Mapping[str, Any]
    reading: GaugeReading
    decision: str | None
    """The latest change of the gauge's switch and why."""
    runs: tuple[str | None, ...]
    """The run of the latest step first; None is that of rollouts without a run."""
    run: str | None
    """The one shown."""
    rows: tuple[StepRow, ...]
    """Its steps."""
    rewards: Mapping[str, int]
    """Rewards by source, since the start of the service."""
    groups: int
    silent: int
    """Groups scored, and predicted ones that got one reward, since the start."""
    verdicts: VerdictCounts | None
    latency: Mapping[str, Spread]
    """Seconds by what is timed."""
    problem: str | None
    """Why the gauge has nothing to show, in one sentence."""


def live_training(live: LiveService, wanted: str | None = None) -> LiveTraining:
    """What the service knows.

    Args:
        wanted: name of the run to show, "" for rollouts without a run; None: that of the latest step.

    Raises:
        NotThere: it has scored no step of this run.
    """
    history, info, metrics = live.gauge.history(), live.info(), live.metrics
    runs = tuple(dict.fromkeys(one.run for one in reversed(history)))
    run = chosen_run(runs, wanted, "this service has scored no step of the run")
    return LiveTraining(
        info=info,
        reading=live.gauge.reading(),
        decision=live.gauge.decision,
        runs=runs,
        run=run,
        rows=tuple(_row(part) for part in bins(_sorted([one for one in history if one.run == run]))),
        rewards=labelled_counts(metrics.rewards, "source"),
        groups=sum(labelled_counts(metrics.groups).values()),
        silent=sum(labelled_counts(metrics.silent).values()),
        verdicts=live.verdicts(),
        latency={"a request": spread(metrics.seconds), "scoring a batch": spread(metrics.batch_seconds)},
        problem=_problem(history, info),
    )


def chosen_run(runs: Sequence[str | None], wanted: str | None, missing: str) -> str | None:
    """The run that an address names, by default the first.

    Raises:
        NotThere: it is not one of them; `missing` begins the sentence.
    """
    if wanted is None or not runs:
        return runs[0] if runs else None
    if (wanted or None) not in runs:
        raise NotThere(f"{missing} {wanted!r}; the page Training lists those that there are")
    return wanted or None


def bins(steps: Sequence[RunT]) -> list[Sequence[RunT]]:
    """Consecutive parts of some steps, `BINS` at most."""
    width = max(1, -(-len(steps) // BINS))
    return [steps[start : start + width] for start in range(0, len(steps), width)]


def share_of(part: int, whole: int) -> float | None:
    """A share; None of nothing."""
    return part / whole if whole else None


def lines_of(
    rows: Sequence[StepRow], figures: Mapping[str, Callable[[StepRow], float | None]]
) -> dict[str, list[Point]]:
    """Lines over the steps by name, without those that have no value."""
    lines = {
        name: [Point(row.first, value) for row in rows if (value := figure(row)) is not None]
        for name, figure in figures.items()
    }
    return {name: line for name, line in lines.items() if line}


def band_of(rows: Sequence[StepRow]) -> list[Band]:
    """The interval of the gap over the steps."""
    return [
        Band(row.first, row.gap_low, row.gap_high)
        for row in rows
        if row.gap_low is not None and row.gap_high is not None
    ]


def _sorted(steps: Sequence[StepFigures]) -> list[StepFigures]:
    return sorted(steps, key=lambda one: abs(one.step))


def _row(steps: Sequence[StepFigures]) -> StepRow:
    last = steps[-1]
    sources: Counter[str] = sum((Counter(one.sources) for one in steps), Counter())
    return StepRow(
        first=abs(steps[0].step),
        last=abs(last.step),
        sources=dict(sources),
        flip_share=share_of(sum(one.flipped for one in steps), sum(one.compared for one in steps)),
        silent_share=share_of(sum(one.silent for one in steps), sum(one.predicted for one in steps)),
        gap=last.gap,
        gap_low=last.gap_low,
        gap_high=last.gap_high,
        gap_groups=last.gap_groups,
        stopped=any(one.stopped for one in steps),
    )


def _problem(history: Sequence[StepFigures], info: Mapping[str, Any]) -> str | None:
    if history:
        return None
    if info.get("model") is None:
        return (
            f"the service uses no reward model (mode {info.get('mode')}), so there is nothing for the gauge to measure"
        )
    return "the service has scored no group of a training since its start; the figures come with the first step"
