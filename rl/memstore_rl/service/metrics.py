"""What the service counts, for Prometheus. A registry of its own: two services in one process do not meet."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ROLLOUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Counters, histograms and gauges of one service."""

    def __init__(self, *, waiting: Callable[[], float], journal: Callable[[], float]) -> None:
        """The two functions are asked when the metrics are read: rollouts that wait, and entries of the journal."""
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("memstore_requests", "Requests answered, by status.", ["status"], registry=registry)
        self.rewards = Counter("memstore_rewards", "Rewards given, by source.", ["source"], registry=registry)
        self.groups = Counter("memstore_groups", "Groups scored.", registry=registry)
        self.short = Counter("memstore_short_groups", "Groups with fewer rollouts than expected.", registry=registry)
        self.seconds = Histogram(
            "memstore_request_seconds", "Time to answer a request.", buckets=_SECONDS, registry=registry
        )
        self.batch_rollouts = Histogram(
            "memstore_batch_rollouts", "Rollouts scored together.", buckets=_ROLLOUTS, registry=registry
        )
        self.batch_seconds = Histogram(
            "memstore_batch_seconds", "Time to score a batch.", buckets=_SECONDS, registry=registry
        )
        self.recorded = Counter("memstore_recorded", "Rollouts written to the memory.", registry=registry)
        self.record_failures = Counter(
            "memstore_record_failures", "Attempts to write to the memory that failed.", registry=registry
        )
        self.votes = Gauge(
            "memstore_votes_moved",
            "1 where the last groups of a dataset do not vote like those that the model learnt from.",
            ["dataset", "what"],
            registry=registry,
        )
        asked = {
            "memstore_waiting_rollouts": ("Rollouts that wait to be scored.", waiting),
            "memstore_journal_entries": ("Rollouts still to be written to the memory.", journal),
        }
        for name, (meaning, ask) in asked.items():
            Gauge(name, meaning, registry=registry).set_function(ask)

    def on_batch(self, rollouts: int, seconds: float) -> None:
        """Count a batch."""
        self.batch_rollouts.observe(rollouts)
        self.batch_seconds.observe(seconds)

    def on_votes(self, dataset: str, what: str, moved: bool) -> None:
        """Note how the last groups of a dataset vote."""
        self.votes.labels(dataset, what).set(moved)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return generate_latest(self.registry)
