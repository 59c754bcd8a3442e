"""Training in several batches gives the same quality as in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from memstore.progress import Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.metrics import auc
from memstore_gnn.models.settings import TrainSettings
from memstore_gnn.training import fit_network as module
from memstore_gnn.training.fit import MIN_FOLDS, fit

QUERIES, LABELLED, GROUP = 70, 50, 6
WHOLE = TrainSettings(members=MIN_FOLDS, epochs=40)
BATCHED = replace(WHOLE, batch_rollouts=LABELLED * GROUP // 4)


@pytest.fixture(scope="module")
def memory(make_world: Callable[..., Snapshot]) -> Snapshot:
    return make_world(queries=QUERIES, group=GROUP, seed=3)


def visible(memory: Snapshot) -> FloatVector:
    return np.where(query_of_thinkings(memory) < LABELLED, rewards_of(memory), np.nan)


def test_batched_training_equals_whole_training_within_seed_noise(
    memory: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    run = module._run

    def counted(*arguments: object) -> object:
        batches.append(len(arguments[4]))  # type: ignore[arg-type]
        return run(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_run", counted)
    reward, new = visible(memory), query_of_thinkings(memory) >= LABELLED

    def predict(settings: TrainSettings, seed: int) -> FloatVector:
        model = fit(memory, reward, seed=seed, settings=settings, device="cpu")
        return model.predict(memory, model.label_context(memory, reward))[new]

    whole, batched = [predict(WHOLE, seed) for seed in (0, 1)], [predict(BATCHED, seed) for seed in (0, 1)]
    assert set(batches[: 2 * MIN_FOLDS]) == {1}
    assert min(batches[2 * MIN_FOLDS :]) >= 4
    truth = rewards_of(memory)[new]
    order = [np.mean([auc(p, truth) for p in both]) for both in (whole, batched)]
    assert order[0] == pytest.approx(order[1], abs=0.02)
    noise = np.abs(whole[0] - whole[1]).mean()
    difference = np.abs(np.mean(whole, axis=0) - np.mean(batched, axis=0)).mean()
    assert difference < max(2.0 * noise, 0.01)


def test_progress_of_batched_training_adds_up(memory: Snapshot) -> None:
    done: list[int] = []

    class Counting(Silent):
        def advance(self, count: int) -> None:
            done.append(count)

    fit(memory, visible(memory), settings=replace(BATCHED, epochs=12), device="cpu", progress=Counting())
    assert sum(done) == MIN_FOLDS * 12
