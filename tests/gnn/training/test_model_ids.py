"""Model ids: a digest of the input of training, which changes only where a model changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memstore_gnn.models.settings import NetworkSettings, TrainSettings
from memstore_gnn.training.fit import model_digest

REWARD = np.array([1.0, 0.0, np.nan])


def test_id_stays_the_same() -> None:
    """Both values change with a field of the settings: then models have another format, and are trained again."""
    assert repr(TrainSettings()) == (
        "TrainSettings(network=NetworkSettings(hidden=24, rounds=2, dropout=0.1), members=5, epochs=100, "
        "learning_rate=0.003, weight_decay=0.01, report_share=0.2)"
    )
    assert model_digest("s-1", "MiniLM", TrainSettings(), 3, "1.0", REWARD) == "b4ad8114000a1d56"


@pytest.mark.parametrize(
    "other",
    [
        ("s-2", "MiniLM", TrainSettings(), 3, "1.0", REWARD),
        ("s-1", "other", TrainSettings(), 3, "1.0", REWARD),
        ("s-1", "MiniLM", TrainSettings(epochs=1), 3, "1.0", REWARD),
        ("s-1", "MiniLM", replace(TrainSettings(), network=NetworkSettings(hidden=8)), 3, "1.0", REWARD),
        ("s-1", "MiniLM", TrainSettings(), 4, "1.0", REWARD),
        ("s-1", "MiniLM", TrainSettings(), 3, "1.1", REWARD),
        ("s-1", "MiniLM", TrainSettings(), 3, "1.0", 1.0 - REWARD),
    ],
)
def test_every_input_changes_the_id(other: tuple[str, str, TrainSettings, int, str, np.ndarray]) -> None:
    assert model_digest(*other) != "b4ad8114000a1d56"
