"""Gauge: measures during a training whether the memory helps, and stops its predictions if it does not.

For groups whose truth is known (labelled groups, whose new rollouts no model was trained on, and audit queries), the
reward model predicts as if it were not. The gauge compares these predictions with the truth: the gap of the residual
p - v between right and wrong rollouts, in groups whose majority is wrong (`memstore_gnn.monitoring.residual_gap`).
`GaugeReading` has the figures.

**Switch.** The memory counts as harmful if

- with `least` groups whose majority is wrong, the 90 % interval of their gap reaches below zero, and that of all mixed
  groups is not above zero, or
- with `least` groups, the 98 % interval of the gap lies below zero, where the majority is wrong or in all mixed groups.

Where `least` of these groups are of audit queries, the others do not count: the model has the labels of the labelled
queries, and these may be of other kinds than the rest.

A decision is taken when a new step begins, by the groups of the steps in the window since the last change. So it does
not depend on how a step is divided into requests, and it does not switch back and forth. Predictions come back once
`least` groups whose majority is wrong no longer say harm. Where too few of these had been seen at the stop, `least`
mixed groups with a 90 % interval above zero bring them back, too.

With `when_harmful` "stop", predictions are withheld while the memory counts as harmful: their rollouts are unscored
with the reason, as in mode `budget`. Ground truth, remembered verdicts and the gauge go on. With "warn" only the log
and the metrics tell. With too few groups nothing changes. docs/gauge.md says how the numbers were chosen.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from memstore.errors import InputError
from memstore.types import QueryId
from memstore_gnn.monitoring.residual_gap import Interval
from memstore_rl.rewards.gauge_reading import WHEN_HARMFUL, GaugeReading, StepFigures, WhenHarmful
from memstore_rl.rewards.gauge_window import GaugeWindow, ScoredGroup, StepKey

logger = logging.getLogger(__name__)

WITHHELD = (
    "the gauge stopped the memory's predictions, because they do not help where the majority of a group is wrong "
    "(when_harmful=stop)"
)
"""Reason of a rollout whose prediction is withheld."""
CERTAIN = 0.98
"""Level of an interval that shows harm by itself if it lies below zero."""
BLIND_STEPS = 20
"""Steps without a judged group after which the log says that the gauge cannot judge."""


@dataclass(frozen=True)
class GaugeSettings:
    """Settings of the gauge.

    Attributes:
        when_harmful: `stop` withholds predictions while the memory counts as harmful; `warn` only says so.
        share: share of the labelled groups that are predicted for the gauge, chosen by a hash of query and step; 0
            predicts audit queries only.
        window: steps that count.
        least: groups that a decision needs, 2 or more.

    Raises:
        InputError: a setting is invalid.
    """

    when_harmful: WhenHarmful = "stop"
    share: float = 1.0
    window: int = 200
    least: int = 30

    def __post_init__(self) -> None:
        if self.when_harmful not in WHEN_HARMFUL:
            raise InputError(f"when_harmful is {self.when_harmful!r}; use one of {', '.join(WHEN_HARMFUL)}")
        if not 0.0 <= self.share <= 1.0:
            raise InputError(f"the gauge's share is {self.share:g}; it must be between 0 and 1")
        if self.window < 1:
            raise InputError(f"the gauge's window is {self.window} steps; use 1 or more")
        if self.least < 2:
            raise InputError(f"the gauge decides from {self.least} groups; an interval needs 2 or more")


class BatchStart(NamedTuple):
    """What holds for a batch of groups."""

    steps: list[StepKey]
    """The step of each group."""
    stopped: bool
    """Whether predictions are withheld."""


class Gauge:
    """Collects judged groups and decides whether predictions are withheld; see the module's docstring. Thread-safe."""

    def __init__(self, settings: GaugeSettings | None = None) -> None:
        self.settings = settings or GaugeSettings()
        self._window = GaugeWindow(self.settings.window, self.settings.least)
        self._lock = threading.Lock()
        self._harmful = False
        self._by_mixed_alone = False
        """Whether all mixed groups decided the last stop, for want of groups whose majority is wrong."""
        self._changed: StepKey | None = None
        self._decision: str | None = None
        self._batches = 0
        self._withheld = 0
        self._said_blind = False

    @property
    def stopped(self) -> bool:
        """Whether predictions are withheld now."""
        return self._harmful and self.settings.when_harmful == "stop"

    def start(self, steps: Sequence[tuple[str | None, int | None]]) -> BatchStart:
        """Begin a batch; if a step begins with it, decide by the steps before.

        Args:
            steps: run and step of each group; without a step, the group belongs to the batch.
        """
        with self._lock:
            if any(step is None for _, step in steps):
                self._batches += 1
            keys: list[StepKey] = [(None, -self._batches) if step is None else (run, step) for run, step in steps]
            before = self._window.latest()
            if self._window.has_new(keys):
                gap = self._decide(before)
                self._window.start(keys, gap, stopped=self.stopped)
            return BatchStart(keys, self.stopped)

    def samples(self, query: QueryId, step: StepKey) -> bool:
        """Whether a labelled group is predicted for the gauge; the same for the same query and step."""
        if self.settings.share >= 1.0:
            return True
        digest = hashlib.blake2b(f"{query}\0{step[0]}\0{step[1]}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self.settings.share * 2**64

    def observe(self, groups: Sequence[ScoredGroup]) -> None:
        """Add the scored groups of a batch."""
        with self._lock:
            for group in groups:
                self._window.add(group)
                self._withheld += any(reward.withheld for reward in group.rewards)

    def reading(self) -> GaugeReading:
        """Return the figures of the latest steps."""
        with self._lock:
            return self._window.reading(harmful=self._harmful, stopped=self.stopped, withheld=self._withheld)

    def history(self) -> list[StepFigures]:
        """Figures of each step, the oldest first."""
        with self._lock:
            return self._window.history()

    @property
    def decision(self) -> str | None:
        """The latest change of the switch and why, as the log said it; None if there was none."""
        with self._lock:
            return self._decision

    def _decide(self, latest: StepKey | None) -> Interval:
        """Decide by the steps so far; return the gap where the majority is wrong."""
        self._say_if_blind()
        interval, least = partial(self._window.interval, after=self._changed), self.settings.least
        gap, mixed = interval(), interval(majority_wrong=False)
        enough = gap.groups >= least and not math.isnan(gap.low)
        by_mixed = mixed.groups >= least and interval(majority_wrong=False, level=CERTAIN).high < 0
        by_wrong = enough and (interval(level=CERTAIN).high < 0 or (gap.low < 0 and not mixed.low > 0))
        harmful = by_mixed or by_wrong
        returns = enough or (self._by_mixed_alone and mixed.groups >= least and mixed.low > 0)
        if harmful != self._harmful and (harmful or returns):
            self._harmful, self._changed = harmful, latest
            self._by_mixed_alone = by_mixed and not enough
            outcome = _RESUMES if not harmful else _STOPS if self.settings.when_harmful == "stop" else _WARNS
            self._decision = f"{_finding(gap, mixed)}{outcome}"
            logger.warning("%s", self._decision)
        return gap

    def _say_if_blind(self) -> None:
        """Log once that no group has a known truth, after some steps with predictions."""
        if self._said_blind or self._window.judged or not self._window.predicts:
            return
        if self._window.steps >= min(BLIND_STEPS, self.settings.window):
            self._said_blind = True
            logger.warning(
                "none of the groups of the latest %d steps is labelled or of an audit query, so the gauge cannot judge "
                "whether the memory helps; send some queries with a gold answer, or audit queries",
                self._window.steps,
            )


_STOPS = "; predictions are withheld, so unlabelled groups are unscored (when_harmful=stop)"
_WARNS = "; predictions go on (when_harmful=warn)"
_RESUMES = ", so the memory helps again and its predictions count"


def _finding(gap: Interval, mixed: Interval) -> str:
    return (
        f"beyond the votes, the memory gives right rollouts {gap.mean:+.3f} (90 % interval {gap.low:+.3f} to "
        f"{gap.high:+.3f}) over wrong ones in {gap.groups} groups whose majority is wrong, and {mixed.mean:+.3f} "
        f"({mixed.low:+.3f} to {mixed.high:+.3f}) in all {mixed.groups} mixed groups"
    )
