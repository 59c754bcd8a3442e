"""Prometheus metrics of the service. Each instance has its own registry, so two services can share a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from memstore_rl.rewards.verdicts import VerdictCounts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ROLLOUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

_VERDICTS = {
    "memstore_verifier_calls": ("calls", "Verifier calls of mode verdict, since the start."),
    "memstore_verifier_calls_latest_step": ("latest_calls", "Verifier calls of the step that called last."),
    "memstore_verifier_calls_failed": ("failed", "Verifier calls that failed, since the start."),
    "memstore_verifier_calls_waiting": ("waiting", "Verifier calls whose verdict has not arrived."),
    "memstore_verdicts_right": ("right", "Verdicts bought since the start: the answer is right."),
    "memstore_verdicts_wrong": ("wrong", "Verdicts bought since the start: the answer is wrong."),
    "memstore_verdict_pairs_remembered": (
        "remembered",
        "Pairs of query and answer in scored batches that needed no call, since the start.",
    ),
    "memstore_verdict_pairs_open": (
        "open",
        "Pairs of query and answer in scored batches that stayed open, since the start.",
    ),
}
"""Metrics of mode `verdict`: field of `VerdictCounts` and description, by name."""

QUANTILES = (0.5, 0.99)


class Spread(NamedTuple):
    """A histogram in figures."""

    number: int
    mean: float | None
    below: tuple[float, ...]
    """For each of `QUANTILES`, the bound of a bucket below which that share lies; infinity beyond the last bucket."""


class Metrics:
    """Counters, histograms and gauges of one service."""

    def __init__(self, *, waiting: Callable[[], float], journal: Callable[[], float]) -> None:
        """Create the metrics.

        Args:
            waiting: returns the number of waiting rollouts; called when the metrics are read.
            journal: returns the number of journal entries; called when the metrics are read.
        """
        self.registry = registry = CollectorRegistry()
        self.requests = Counter("memstore_requests", "Requests answered, by status.", ["status"], registry=registry)
        self.rewards = Counter("memstore_rewards", "Rewards given, by source.", ["source"], registry=registry)
        self.groups = Counter("memstore_groups", "Groups scored.", registry=registry)
        self.short = Counter("memstore_short_groups", "Groups with fewer rollouts than expected.", registry=registry)
        self.silent = Counter(
            "memstore_silent_groups", "Predicted groups that get one reward: they differ too little.", registry=registry
        )
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
        self.retrained = Counter(
            "memstore_retrained", "Reward models that the service has trained and taken up.", registry=registry
        )
        self.retrain_failures = Counter(
            "memstore_retrain_failed", "Trainings in place that failed; the model before stayed.", registry=registry
        )
        self.retraining = Gauge("memstore_retraining", "1 while a reward model is trained.", registry=registry)
        self.votes = Gauge(
            "memstore_votes_moved",
            "1 if the latest groups of a dataset vote differently from the training groups of the reward model.",
            ["dataset", "what"],
            registry=registry,
        )
        gauges = {
            "memstore_waiting_rollouts": ("Rollouts waiting to be scored.", waiting),
            "memstore_journal_entries": ("Rollouts not yet written to the memory.", journal),
        }
        for name, (description, read) in gauges.items():
            Gauge(name, description, registry=registry).set_function(read)

    def on_batch(self, rollouts: int, seconds: float) -> None:
        """Record the size and duration of a batch."""
        self.batch_rollouts.observe(rollouts)
        self.batch_seconds.observe(seconds)

    def watch_verdicts(self, read: Callable[[], VerdictCounts | None]) -> None:
        """Add the metrics of mode `verdict`.

        Args:
            read: returns the scorer's counts; called when the metrics are read.
        """
        for name, (field, description) in _VERDICTS.items():
            Gauge(name, description, registry=self.registry).set_function(partial(_count, read, field))

    def on_votes(self, dataset: str, what: str, moved: bool) -> None:
        """Record whether the votes of a dataset have drifted."""
        self.votes.labels(dataset, what).set(moved)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


def _count(read: Callable[[], VerdictCounts | None], field: str) -> float:
    return float(getattr(read(), field))


def labelled_counts(counter: Counter, label: str | None = None) -> dict[str, int]:
    """The values of a counter by one of its labels; without labels, a single value by ""."""
    samples = [sample for family in counter.collect() for sample in family.samples if sample.name.endswith("_total")]
    return {sample.labels[label] if label else "": int(sample.value) for sample in samples}


def spread(histogram: Histogram, quantiles: Sequence[float] = QUANTILES) -> Spread:
    """The figures of a histogram without labels."""
    samples = [sample for family in histogram.collect() for sample in family.samples]
    count, total = (next(one.value for one in samples if one.name.endswith(end)) for end in ("_count", "_sum"))
    if not count:
        return Spread(0, None, ())
    buckets = [(float(one.labels["le"]), one.value) for one in samples if one.name.endswith("_bucket")]
    below = (next(bound for bound, number in buckets if number >= share * count) for share in quantiles)
    return Spread(int(count), total / count, tuple(below))
