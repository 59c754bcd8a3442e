"""What a running service knows of its training, for the pages: what `/metrics`, `/v1/info` and the logs show, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from memstore_rl.rewards.gauge import Gauge
from memstore_rl.rewards.verdicts import VerdictCounts
from memstore_rl.service.metrics import Metrics


@dataclass(frozen=True)
class LiveService:
    """A service that is running. Its parts may be read from any thread."""

    gauge: Gauge
    metrics: Metrics
    verdicts: Callable[[], VerdictCounts | None]
    """The counts of mode `verdict`; None without a budget of verifier calls."""
    info: Callable[[], Mapping[str, Any]]
    """The response of `/v1/info`."""
