"""Vote drift: no message while groups vote as in training, one warning when they drift."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from memstore.graph.protocol import EdgeTable
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.hetero import some_rollouts, subgraph
from memstore_gnn.monitoring.drift import reference_of
from memstore_rl.rewards import vote_drift as vote_drift_module
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.rewards.vote_drift import WINDOW, VoteDriftMonitor

Windows = list[tuple[str, str, bool]]


@pytest.fixture(scope="module")
def stored(trained_memory: Memory) -> Snapshot:
    return trained_memory.snapshot()


@pytest.fixture(scope="module")
def unanswered(stored: Snapshot) -> Snapshot:
    """The same rollouts, all without an answer."""
    none, properties = np.zeros(0, np.int64), stored.edges["leads_to"].properties
    return replace(stored, edges={**stored.edges, "leads_to": EdgeTable(none, none, properties.slice(0, 0))})


def monitored(stored: Snapshot) -> tuple[VoteDriftMonitor, Windows]:
    monitor = VoteDriftMonitor(reference_of(stored, np.ones(stored.queries.num_rows, bool)))
    windows_seen: Windows = []
    monitor.on_window = lambda *window: windows_seen.append(window)
    return monitor, windows_seen


def observe(monitor: VoteDriftMonitor, snapshot: Snapshot, windows: int) -> None:
    """Observe exactly enough groups for the given number of windows."""
    whole, rest = divmod(windows * WINDOW, snapshot.queries.num_rows)
    for _ in range(whole):
        monitor.observe(snapshot)
    monitor.observe(subgraph(snapshot, snapshot.queries["id"].to_pylist()[:rest]))


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the log messages of the monitor only."""
    return [record.getMessage() for record in caplog.records if record.name == vote_drift_module.__name__]


def test_groups_that_vote_as_in_training_log_nothing(stored: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    monitor, windows_seen = monitored(stored)
    observe(monitor, stored, windows=3)
    assert windows_seen == [("arithmetic", what, False) for _ in range(3) for what in ("agreement", "answers")]
    assert logged(caplog) == []


def test_drift_logs_one_warning_and_one_line_at_its_end(
    stored: Snapshot, unanswered: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monitor, windows_seen = monitored(stored)
    observe(monitor, unanswered, windows=2)
    assert windows_seen == [("arithmetic", what, True) for _ in range(2) for what in ("agreement", "answers")]
    (warning,) = logged(caplog)
    assert warning.startswith(f"the last {WINDOW} groups of 'arithmetic' vote differently from the training groups")
    assert "of 4 rollouts 0.0 agree" in warning
    assert "0% of the rollouts have an answer" in warning
    observe(monitor, stored, windows=1)
    assert windows_seen[-2:] == [("arithmetic", "agreement", False), ("arithmetic", "answers", False)]
    assert logged(caplog)[1:] == ["the groups of 'arithmetic' vote like the training groups again"]


def test_datasets_without_training_groups_are_pooled(stored: Snapshot) -> None:
    monitor, windows_seen = monitored(stored)
    at = stored.datasets.column_names.index("name")
    for name in ("new", "newer"):
        column = pa.array([name] * stored.datasets.num_rows)
        renamed = replace(stored, datasets=stored.datasets.set_column(at, "name", column))
        monitor.observe(renamed)
        monitor.observe(renamed)
    assert windows_seen == [("", "agreement", False), ("", "answers", False)]


def test_small_groups_are_ignored(stored: Snapshot) -> None:
    monitor, windows_seen = monitored(stored)
    pairs = some_rollouts(
        stored, stored.thinkings["sample_index"].to_numpy() < 1
    )  # one rollout of each of the two steps
    for _ in range(2 * WINDOW // stored.queries.num_rows):
        monitor.observe(pairs)
    assert windows_seen == []


def test_predicted_groups_are_monitored(trained_memory: Memory) -> None:
    query = RewardQuery("What is {} + 3?", dataset="arithmetic", domain="math")
    rollouts = [Rollout(response="#### 7", policy="new", run="r", step=1) for _ in range(4)]
    groups = [Group(replace(query, text=query.text.format(number)), rollouts) for number in range(WINDOW)]
    with GroupScorer.open(trained_memory) as scorer:
        assert scorer.model is not None
        assert scorer.model.vote_drift is not None
        windows_seen: Windows = []
        scorer.model.vote_drift.on_window = lambda *window: windows_seen.append(window)
        labelled = [replace(one, query=replace(one.query, gold="5")) for one in groups]
        scorer.score_groups(labelled)
        assert windows_seen == []
        scorer.score_groups(groups)
    assert windows_seen == [("arithmetic", "agreement", True), ("arithmetic", "answers", False)]
