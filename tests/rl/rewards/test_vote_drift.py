"""The watch over what is scored: silent where groups vote as usual, one warning where they no longer do."""

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
from memstore_rl.rewards import vote_drift as watch_module
from memstore_rl.rewards.group import GroupScorer
from memstore_rl.rewards.reward import Group, RewardQuery, Rollout
from memstore_rl.rewards.vote_drift import WINDOW, VoteDrift

Told = list[tuple[str, str, bool]]


@pytest.fixture(scope="module")
def stored(trained_memory: Memory) -> Snapshot:
    return trained_memory.snapshot()


@pytest.fixture(scope="module")
def silent(stored: Snapshot) -> Snapshot:
    """The same rollouts, none of which has found an answer."""
    none, properties = np.zeros(0, np.int64), stored.edges["leads_to"].properties
    return replace(stored, edges={**stored.edges, "leads_to": EdgeTable(none, none, properties.slice(0, 0))})


def watching(stored: Snapshot) -> tuple[VoteDrift, Told]:
    watch = VoteDrift(reference_of(stored, np.ones(stored.queries.num_rows, bool)))
    told: Told = []
    watch.on_window = lambda *window: told.append(window)
    return watch, told


def see(watch: VoteDrift, snapshot: Snapshot, windows: int) -> None:
    """Enough groups for so many windows, and not for one more."""
    whole, rest = divmod(windows * WINDOW, snapshot.queries.num_rows)
    for _ in range(whole):
        watch.see(snapshot)
    watch.see(subgraph(snapshot, snapshot.queries["id"].to_pylist()[:rest]))


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the watch has logged; others may log, too."""
    return [record.getMessage() for record in caplog.records if record.name == watch_module.__name__]


def test_groups_that_vote_as_usual_are_no_news(stored: Snapshot, caplog: pytest.LogCaptureFixture) -> None:
    watch, told = watching(stored)
    see(watch, stored, windows=3)
    assert told == [("arithmetic", what, False) for _ in range(3) for what in ("agreement", "answers")]
    assert logged(caplog) == []


def test_a_move_is_one_warning_and_its_end_a_line(
    stored: Snapshot, silent: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    watch, told = watching(stored)
    see(watch, silent, windows=2)
    assert told == [("arithmetic", what, True) for _ in range(2) for what in ("agreement", "answers")]
    (warning,) = logged(caplog)
    assert warning.startswith(f"the last {WINDOW} groups of 'arithmetic' do not vote like those that")
    assert "of 4 rollouts 0.0 agree" in warning
    assert "0% of the rollouts have an answer" in warning
    see(watch, stored, windows=1)
    assert told[-2:] == [("arithmetic", "agreement", False), ("arithmetic", "answers", False)]
    assert logged(caplog)[1:] == ["the groups of 'arithmetic' vote again like those that the model learnt from"]


def test_datasets_not_learnt_from_are_one(stored: Snapshot) -> None:
    watch, told = watching(stored)
    names = stored.queries.column_names
    for name in ("new", "newer"):
        column = pa.array([name] * stored.queries.num_rows)
        other = stored.queries.set_column(names.index("dataset"), "dataset", column)
        renamed = replace(stored, queries=other)
        watch.see(renamed)
        watch.see(renamed)
    assert told == [("", "agreement", False), ("", "answers", False)]


def test_small_groups_are_not_looked_at(stored: Snapshot) -> None:
    watch, told = watching(stored)
    pairs = some_rollouts(stored, stored.thinkings["sample_index"].to_numpy() < 1)  # one of each of the two steps
    for _ in range(2 * WINDOW // stored.queries.num_rows):
        watch.see(pairs)
    assert told == []


def test_what_a_scorer_predicts_is_watched(trained_memory: Memory) -> None:
    query = RewardQuery("What is {} + 3?", dataset="arithmetic", domain="math")
    rollouts = [Rollout(response="#### 7", policy="new", run="r", step=1) for _ in range(4)]
    groups = [Group(replace(query, text=query.text.format(number)), rollouts) for number in range(WINDOW)]
    with GroupScorer.open(trained_memory) as scorer:
        assert scorer.model is not None
        assert scorer.model.vote_drift is not None
        told: Told = []
        scorer.model.vote_drift.on_window = lambda *window: told.append(window)
        labelled = [replace(one, query=replace(one.query, gold="5")) for one in groups]
        scorer.score_groups(labelled)
        assert told == []
        scorer.score_groups(groups)
    assert told == [("arithmetic", "agreement", True), ("arithmetic", "answers", False)]
