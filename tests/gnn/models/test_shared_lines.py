"""Models of a memory whose queries share steps: only labels of equal steps tell which rollouts are right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.explain.scene import Removed, scene_of
from memstore_gnn.features.line_labels import PREFIX
from memstore_gnn.metrics import auc
from memstore_gnn.models import inputs
from memstore_gnn.models.checkpoint import load_model, save_model
from memstore_gnn.models.reward_model import RewardModel
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.training.fit import fit

QUERIES, LABELLED = 36, 24
VERBS = ("lends", "mails", "grows", "picks", "bakes", "sells")
SETTINGS = TrainSettings(members=3, epochs=6)


class Shared(NamedTuple):
    """A memory, its labels (float64 [T], NaN for the last queries) and a model of it."""

    snapshot: Snapshot
    reward: FloatVector
    model: RewardModel

    @property
    def new(self) -> np.ndarray:
        """Rollouts of the queries without a label, bool [T]."""
        return np.isnan(self.reward)

    def predict(self, model: RewardModel) -> FloatVector:
        return model.predict(self.snapshot, model.label_context(self.snapshot, self.reward))


def steps_memory(build: Callable[..., Snapshot]) -> Snapshot:
    """Four rollouts a query, two of which read a verb as an addition; it is one for every other verb."""
    rows: list[dict[str, Any]] = []
    for number in range(QUERIES):
        verb = number % len(VERBS)
        for sample in range(4):
            added = sample % 2 == 0
            result = 20 + number + (3 if added else -3)
            step = f"She {VERBS[verb]} 3, so {'add' if added else 'subtract'} 3: {20 + number} {'+-'[not added]} 3"
            rows.append({"query": f"Ada {VERBS[verb]} 3 of {20 + number}.", "sample_index": sample})
            rows[-1] |= {"value": str(result), "thinking": f"{step} = {result}.", "reward": float(added == verb % 2)}
    return build(rows)


@pytest.fixture(scope="module")
def shared(build_snapshot: Callable[..., Snapshot]) -> Shared:
    snapshot = steps_memory(build_snapshot)
    reward = np.where(query_of_thinkings(snapshot) < LABELLED, rewards_of(snapshot), np.nan)
    return Shared(snapshot, reward, fit(snapshot, reward, settings=SETTINGS, device="cpu"))


def test_labels_of_equal_steps_tell_what_is_right(shared: Shared) -> None:
    truth = rewards_of(shared.snapshot)[shared.new]
    assert auc(shared.predict(shared.model)[shared.new], truth) > 0.99
    near = shared.model.base.near
    lines = np.char.startswith(np.array(near.names), PREFIX)
    masked = replace(shared.model.base, near=replace(near, deviation=np.where(lines, np.inf, near.deviation)))
    assert auc(shared.predict(replace(shared.model, base=masked))[shared.new], truth) < 0.8


def test_a_model_from_before_the_lines_scores_as_before(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_lines(lines: Any, groups: Any, labelled: Any, query: Any) -> FeatureTable:
        return FeatureTable.from_columns({}, lines.rollouts)

    with monkeypatch.context() as earlier:
        earlier.setattr(inputs, "line_table", no_lines)
        model = fit(shared.snapshot, shared.reward, settings=SETTINGS, device="cpu")
        save_model(model, tmp_path / "model")
        before = shared.predict(model)
    loaded = load_model(tmp_path / "model")
    assert loaded.base.near.names
    assert not [name for name in loaded.base.near.names if name.startswith(PREFIX)]
    assert np.array_equal(shared.predict(loaded), before)


def test_an_explanation_keeps_the_queries_that_share_a_line(shared: Shared) -> None:
    """The snapshot has no vectors, so only shared lines make a query one that can change the score."""
    row = int(np.flatnonzero(query_of_thinkings(shared.snapshot) == LABELLED)[0])
    scene = scene_of(shared.model, shared.snapshot, shared.reward, row)
    texts = shared.snapshot.queries["text"].to_pylist()
    verb = texts[LABELLED].split()[1]
    same = {text for text in texts[:LABELLED] if verb in text}
    assert 0 < len(same) < LABELLED
    assert set(scene.memory.queries["text"].to_pylist()) == same
    assert scene.probability() == pytest.approx(shared.predict(shared.model)[row], abs=1e-6)
    gone = Removed(labels=frozenset(range(len(scene.reward))))
    assert abs(scene.probability(gone) - scene.probability()) > 0.01
