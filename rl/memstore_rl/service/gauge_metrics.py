"""The gauge in the service's metrics: `memstore_gauge_*` (`memstore_rl.rewards.gauge_reading.GaugeReading`)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from memstore_rl.rewards.gauge import Gauge
from memstore_rl.rewards.reward import SOURCES

_DESCRIPTIONS = {
    "steps": "Latest steps that the gauge covers.",
    "groups": "Groups of these steps that are trained on.",
    "judged": "Groups with known truth that the model predicted for the gauge.",
    "audited": "Judged groups of audit queries.",
    "gap": "Mean of p - v over right less wrong rollouts, where the majority is wrong.",
    "gap_low": "Lower bound of the 90 % interval of memstore_gauge_gap.",
    "gap_high": "Upper bound of the 90 % interval of memstore_gauge_gap.",
    "gap_groups": "Groups in memstore_gauge_gap.",
    "mixed_gap": "The gap over all groups with right and wrong rollouts.",
    "mixed_low": "Lower bound of the 90 % interval of memstore_gauge_mixed_gap.",
    "mixed_high": "Upper bound of the 90 % interval of memstore_gauge_mixed_gap.",
    "mixed_groups": "Groups in memstore_gauge_mixed_gap.",
    "auc": "Mean area under the ROC curve of p within mixed groups.",
    "flip_share": "Share of queries whose majority answer is another than at their step before.",
    "silent_share": "Share of predicted groups that get one reward.",
    "harmful": "1 if the memory counts as harmful.",
    "stopped": "1 if predictions are withheld.",
    "withheld": "Groups whose predictions were withheld, of all steps.",
    **{f"{source}_share": f"Share of rewards with source {source}." for source in SOURCES},
}


class GaugeCollector(Collector):
    """Reads the gauge whenever the metrics are read. A figure without data is NaN."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield one metric for each figure."""
        for name, value in self._gauge.reading().metrics().items():
            yield GaugeMetricFamily(f"memstore_gauge_{name}", _DESCRIPTIONS[name], value)
