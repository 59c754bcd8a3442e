"""A planted memory without consensus, where only the vector shows whether a rollout is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from memstore.snapshots.aliases import first_keys
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.training.fit import fit

DIMENSION, QUERIES, GROUP = 24, 24, 4


class Planted(NamedTuple):
    """The memory, its labels (float64 [T], NaN for the scored query), a model of it.

    `scored` is a rollout of the query without labels; `near` is the labelled rollout with the same vector.
    """

    snapshot: Snapshot
    reward: FloatVector
    model: RewardModel
    scored: str
    near: str

    def row(self, rollout: str) -> int:
        """Row of a rollout in the thinkings."""
        return self.snapshot.thinkings["id"].to_pylist().index(rollout)


def unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


@pytest.fixture(scope="session")
def planted(build_snapshot: Callable[..., Snapshot]) -> Planted:
    rng = np.random.default_rng(3)
    right, wrong = np.eye(DIMENSION)[:2]
    rows: list[dict[str, Any]] = []
    vectors: list[np.ndarray] = []
    for number in range(QUERIES):
        for sample in range(GROUP):
            good = sample % 2 == 0
            rows.append({"query": f"Which word is number {number}?", "key": f"word-{number}", "domain": "other"})
            rows[-1] |= {"value": f"word {sample // 2} {good}", "sample_index": sample, "reward": float(good)}
            rows[-1]["policy"] = "small" if sample < 2 else "large"
            vectors.append(unit((right if good else wrong) + 0.2 * rng.normal(size=DIMENSION)))
    # Two rollouts have the same vector, far from all others: one is labelled and wrong, the other is scored.
    far = unit(np.eye(DIMENSION)[5])
    vectors[0], vectors[-1] = far, far
    rows[0]["reward"] = 0.0
    query_x = {row["query"]: unit(rng.normal(size=DIMENSION)) for row in rows}
    snapshot = build_snapshot(rows, query_x, vectors)
    last = first_keys(snapshot).index(f"word-{QUERIES - 1}")
    reward = np.where(query_of_thinkings(snapshot) == last, np.nan, rewards_of(snapshot))
    model = fit(snapshot, reward, settings=TrainSettings(members=2, epochs=15), device="cpu")
    same_vector = np.flatnonzero(snapshot.thinking_x[:, 5] > 0.999)
    ids = snapshot.thinkings["id"].to_numpy()
    (near,), (scored,) = (
        ids[same_vector[np.isfinite(reward[same_vector])]],
        ids[same_vector[np.isnan(reward[same_vector])]],
    )
    return Planted(snapshot, reward, model, scored, near)
