"""Figures of the gauge (`memstore_rl.rewards.gauge`), as a scorer gives them and a client of a service reads them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from memstore_rl.rewards.reward import SOURCES

WhenHarmful: TypeAlias = Literal["stop", "warn"]
"""What happens if the memory counts as harmful: its predictions are withheld, or the log and the metrics say so."""
WHEN_HARMFUL: tuple[WhenHarmful, ...] = get_args(WhenHarmful)


@dataclass(frozen=True)
class StepFigures:
    """What the gauge saw of a step."""

    run: str | None
    step: int
    """Below zero: the number of a batch whose rollouts have no step."""
    groups: int
    """Scored groups that are trained on."""
    judged: int
    """Groups with known truth that the model has predicted as if it were unknown."""
    predicted: int
    silent: int
    """Predicted groups, and those of them that get one reward."""
    compared: int
    flipped: int
    """Groups of a query seen at an earlier step, and those of them whose majority answer is another one now."""
    sources: dict[str, int]
    """Number of rewards by source."""
    gap: float | None
    gap_low: float | None
    gap_high: float | None
    gap_groups: int
    """The gap where the majority is wrong, as the switch read it when the step began: since its last change."""
    stopped: bool
    """Whether predictions were withheld."""


@dataclass(frozen=True)
class GaugeReading:
    """Figures of the latest steps. A figure without data is None."""

    steps: int
    groups: int
    """Scored groups that are trained on."""
    judged: int
    """Groups with known truth that the model has predicted as if it were unknown."""
    audited: int
    """Judged groups of audit queries."""
    gap: float | None
    """Mean gap of the residual (`memstore_gnn.monitoring.residual_gap`) over the judged groups whose majority is wrong
    and that hold a right rollout."""
    gap_low: float | None
    gap_high: float | None
    """Bounds of the 90 % interval of `gap`."""
    gap_groups: int
    """Groups in `gap`."""
    mixed_gap: float | None
    """The same over all judged groups with right and wrong rollouts."""
    mixed_low: float | None
    mixed_high: float | None
    mixed_groups: int
    auc: float | None
    """Mean area under the ROC curve of the probability within mixed groups."""
    flip_share: float | None
    """Share of the groups of a query seen at an earlier step whose majority answer is another one now."""
    silent_share: float | None
    """Share of the predicted groups that get one reward."""
    sources: dict[str, float] = field(default_factory=dict)
    """Share of the rewards by source."""
    harmful: bool = False
    """Whether the memory counts as harmful (`memstore_rl.rewards.gauge`)."""
    stopped: bool = False
    """Whether predictions are withheld."""
    withheld: int = 0
    """Groups whose predictions were withheld, of all steps."""

    def as_json(self) -> dict[str, Any]:
        """The reading as a JSON object."""
        return asdict(self)

    def summary(self) -> str:
        """The gap and whether predictions are withheld, for a line of a log."""
        if self.gap is None or self.gap_low is None or self.gap_high is None:
            gap = f"no interval of the gap yet ({self.judged} judged groups)"
        else:
            bounds = f"{self.gap_low:+.3f} to {self.gap_high:+.3f}"
            gap = f"gap {self.gap:+.3f} ({bounds}, {self.gap_groups} groups)"
        return gap + (", predictions stopped" if self.stopped else ", harmful" if self.harmful else "")

    def trainer_metrics(self) -> dict[str, float]:
        """The figures that have data, for the metrics of a trainer, which has the sources of each batch itself."""
        shares = {f"{source}_share" for source in SOURCES}
        return {name: v for name, v in self.metrics().items() if name not in shares and not math.isnan(v)}

    def metrics(self) -> dict[str, float]:
        """The figures by name, for metric streams; NaN without data."""
        values = {name: value for name, value in asdict(self).items() if name != "sources"}
        values |= {f"{source}_share": self.sources.get(source) for source in SOURCES}
        return {name: math.nan if value is None else float(value) for name, value in values.items()}


def reading_of(info: Mapping[str, Any]) -> GaugeReading | None:
    """The gauge in a response of the service's `/v1/info`; None if there is none.

    Figures of a newer service that this version does not know are left out.
    """
    given = info.get("gauge")
    known = {one.name for one in fields(GaugeReading)}
    return None if given is None else GaugeReading(**{name: value for name, value in given.items() if name in known})
