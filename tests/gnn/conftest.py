"""Fixtures of the reward model's tests: snapshots from plain rows, and a small synthetic memory.

Every query has a topic. The vectors of a topic's right thinkings point in one direction and those of wrong ones in
another, so that votes, the group and labelled neighbours of the same topic are each informative and none is sufficient.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.training.fit import fit

DIMENSION = 16
LABELLED = 24
QUICK = TrainSettings(members=3, epochs=30)


@pytest.fixture(scope="session")
def snapshots() -> ModuleType:
    """The module `snapshots.py`, which builds snapshots from plain rows."""
    path = Path(__file__).parent / "snapshots.py"
    spec = importlib.util.spec_from_file_location("gnn_test_snapshots", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def build_snapshot(snapshots: ModuleType) -> Callable[..., Snapshot]:
    return snapshots.build_snapshot


def world(build_snapshot: Callable[..., Snapshot], queries: int = 30, group: int = 6, seed: int = 0) -> Snapshot:
    """A memory in which every rollout has a label."""
    rng = np.random.default_rng(seed)
    topics = rng.normal(size=(3, DIMENSION))
    lean = rng.normal(size=(3, DIMENSION))
    rows: list[dict[str, Any]] = []
    query_x: dict[str, Any] = {}
    thinking_x: list[Any] = []
    for number in range(queries):
        topic, skill = number % 3, rng.uniform(0.3, 0.9)
        text = f"How much is {number} and {number + 7}?"
        query_x[text] = unit(topics[topic] + 0.3 * rng.normal(size=DIMENSION))
        for _ in range(group):
            right = rng.random() < skill
            value = str(2 * number + 7) if right else str(2 * number + 7 + int(rng.integers(1, 4)))
            thinking = f"{number} + {number + 7} = {value}. So it is {value}."
            rows.append({"query": text, "value": value, "thinking": thinking, "reward": float(right)})
            thinking_x.append(unit(topics[topic] + (1 if right else -1) * lean[topic] + rng.normal(size=DIMENSION)))
    return build_snapshot(rows, query_x, thinking_x)


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def hidden_after(snapshot: Snapshot, queries: int) -> FloatVector:
    """Rewards float64 [T] of the first `queries` queries, NaN for the rest."""
    return np.where(query_of_thinkings(snapshot) < queries, rewards_of(snapshot), np.nan)


@dataclass(frozen=True)
class Trained:
    """A memory of 30 queries with visible labels of the first `LABELLED`, and a model trained on it."""

    snapshot: Snapshot
    reward: FloatVector
    model: RewardModel

    def probability(self, snapshot: Snapshot | None = None, reward: FloatVector | None = None) -> FloatVector:
        """Probabilities of all rollouts, by default with the labels of this memory."""
        memory = self.snapshot if snapshot is None else snapshot
        labels = self.reward if reward is None else reward
        return self.model.predict(memory, self.model.label_context(memory, labels))

    @property
    def new(self) -> np.ndarray:
        """Rollouts of the queries without a visible label, bool [T]."""
        return np.asarray(query_of_thinkings(self.snapshot) >= LABELLED)


@pytest.fixture(scope="session")
def make_world(build_snapshot: Callable[..., Snapshot]) -> Callable[..., Snapshot]:
    return lambda **options: world(build_snapshot, **options)


@pytest.fixture(scope="session")
def trained(make_world: Callable[..., Snapshot]) -> Trained:
    snapshot = make_world()
    reward = hidden_after(snapshot, LABELLED)
    return Trained(snapshot, reward, fit(snapshot, reward, settings=QUICK, device="cpu"))
