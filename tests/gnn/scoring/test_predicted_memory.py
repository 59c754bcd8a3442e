"""A trained model is reported and compared by the scores that `memstore score` gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.data.visibility import visible
from memstore_gnn.evaluation.evaluate import with_rewards
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.scoring.score import predict_memory, score_memory
from memstore_gnn.training.fit import fit

QUICK = TrainSettings(members=2, epochs=5)


def test_predictions_are_what_score_gives_without_recall(build_snapshot: Callable[..., Snapshot]) -> None:
    """Three policies answer each of 16 queries once, so a policy's rollout alone says little."""
    chance, rows = np.random.default_rng(0), []
    for number in range(16):
        for policy, skill in (("a", 0.9), ("b", 0.6), ("c", 0.3)):
            value = str(number + 7 if chance.random() < skill else number + 8)
            row = {"query": f"{number} + 7?", "value": value, "policy": policy, "thinking": f"{policy}: {value}"}
            rows.append(row | {"reward": float(value == str(number + 7))})
    snapshot = build_snapshot(rows)
    reward = np.where(query_of_thinkings(snapshot) < 8, rewards_of(snapshot), np.nan)
    model, memory = fit(snapshot, reward, settings=QUICK, device="cpu"), with_rewards(snapshot, reward)
    new = np.isnan(reward)
    found = predict_memory(model, snapshot, reward, np.ones(len(reward), np.bool_))
    scores = score_memory(model, memory, verdicts=verdicts_of(memory, visible(memory)))
    assert set(scores.source) == {"predicted"}
    assert found[new] == pytest.approx(scores.probability, abs=1e-6)
    alone = model.predict(snapshot, model.label_context(snapshot, reward))
    assert not np.allclose(found, alone, atol=0.01)
