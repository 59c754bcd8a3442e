"""Features in snapshots: saved, loaded, checked, and cut with the rollouts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memstore.errors import InputError
from memstore.memory import Memory
from memstore.snapshots.files import load_snapshot, save_snapshot
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.conformance.memory_features import LENGTH, numbers, write_featured
from memstore.testing.conformance.memory_fixtures import SETTINGS
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.hetero import subgraph


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A snapshot of four rollouts of two queries; one has no features."""
    with Memory.open(tmp_path / "memory", create=True, embedder=HashEmbedder(), settings=SETTINGS) as memory:
        memory.ingest([write_featured(tmp_path / "rows.jsonl", [numbers(0), None, numbers(2), numbers(3)])])
        return memory.snapshot()


def test_a_snapshot_without_features_loads_without(snapshot: Snapshot, tmp_path: Path) -> None:
    save_snapshot(replace(snapshot, features=None, has_features=None), tmp_path / "saved")
    loaded = load_snapshot(tmp_path / "saved")
    assert (loaded.features, loaded.has_features) == (None, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"features": np.zeros((3, LENGTH), np.float32)},
        {"features": np.zeros((4, LENGTH), np.float64)},
        {"features": np.zeros((4, 0), np.float32)},
        {"features": np.full((4, LENGTH), np.nan, np.float32)},
        {"has_features": np.zeros(3, np.bool_)},
        {"has_features": np.zeros(4, np.int64)},
    ],
)
def test_features_that_do_not_fit_are_refused(snapshot: Snapshot, tmp_path: Path, changed: dict[str, Any]) -> None:
    save_snapshot(replace(snapshot, **changed), tmp_path / "saved")
    with pytest.raises(InputError, match="is damaged .the features"):
        load_snapshot(tmp_path / "saved")


def test_some_queries_keep_the_features_of_their_rollouts(snapshot: Snapshot) -> None:
    assert snapshot.features is not None
    part = subgraph(snapshot, snapshot.queries["id"].to_pylist()[:1])
    assert part.features is not None and part.has_features is not None  # noqa: PT018
    rows = [snapshot.thinkings["id"].to_pylist().index(name) for name in part.thinkings["id"].to_pylist()]
    assert len(rows) == 2
    assert np.array_equal(part.features, snapshot.features[rows])
    assert np.array_equal(part.has_features, snapshot.has_features[rows])  # type: ignore[index]
