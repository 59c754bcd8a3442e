"""Training and scoring on a GPU, on a stand-in for the device: every tensor is there, and results are the CPU's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from memstore.progress import Silent
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.doubles.device import second_device
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.models.checkpoint import load_model, save_model
from memstore_gnn.models.settings import NetworkSettings, TrainSettings
from memstore_gnn.training import fit_network
from memstore_gnn.training.fit import fit
from memstore_gnn.training.fit_network import fit_correction

SHORT = TrainSettings(NetworkSettings(dropout=0.0), members=2, epochs=4)
"""Without dropout, whose random numbers differ between devices."""


@pytest.fixture(scope="module")
def memory(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """60 queries with four policies, of which one is right where the others agree; the network learns from it."""
    rows = []
    for query in range(60):
        for policy in range(5):
            right = (policy == query % 4) == bool(query % 2) and policy < 4
            value = "" if policy == 4 else "1" if right else "2"
            if policy < 4 or query % 2:
                rows.append(
                    {"query": f"query {query}?", "policy": f"p{policy}", "value": value, "reward": float(right)}
                )
    return build_snapshot(rows)


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four steps are too few for a network that is trusted, and without trust none would be kept."""
    monkeypatch.setattr(fit_network, "_trust", lambda examples, corrections: 1.0)


def test_the_network_equals_that_of_the_cpu(memory: Snapshot) -> None:
    def trained(device: str) -> list[torch.Tensor]:
        where = torch.device(device)
        found = fit_correction(memory, rewards_of(memory), SHORT, seed=0, device=where, progress=Silent())
        assert found.correction.networks
        return [value.detach() for network in found.correction.networks for value in network.parameters()]

    wanted = trained("cpu")
    with second_device() as device:
        found = trained(device)
        assert {value.device.type for value in found} == {"meta"}
        for ours, theirs in zip(found, wanted, strict=True):
            assert torch.allclose(ours.cpu(), theirs, atol=1e-5)


def test_a_model_is_fitted_stored_loaded_and_asked_on_the_device(memory: Snapshot, tmp_path: Path) -> None:
    reward = rewards_of(memory)
    wanted = fit(memory, reward, settings=SHORT, device="cpu")
    with second_device() as device:
        save_model(fit(memory, reward, settings=SHORT, device=device), tmp_path)
        found = load_model(tmp_path, device)
        scores = found.predict(memory, found.label_context(memory, reward))
    assert scores == pytest.approx(wanted.predict(memory, wanted.label_context(memory, reward)), abs=1e-5)
