"""Model ids: a digest of the input of training that must not change between releases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memstore_gnn.models.settings import NetworkSettings, TrainSettings
from memstore_gnn.training.fit import model_digest

REWARD = np.array([1.0, 0.0, np.nan])


def test_id_is_that_of_earlier_releases() -> None:
    """Both values were computed by the release before the settings of the other parts became dataclasses."""
    assert repr(TrainSettings()) == (
        "TrainSettings(network=NetworkSettings(hidden=32, heads=4, projection=32, dropout=0.3, label_dropout=0.3), "
        "members=5, epochs=150, patience=25, learning_rate=0.003, weight_decay=0.05, batch_rollouts=4096, "
        "report_share=0.2)"
    )
    assert model_digest("s-1", "MiniLM", TrainSettings(), 3, "1.0", REWARD) == "d361c8bb821787fe"


@pytest.mark.parametrize(
    "other",
    [
        ("s-2", "MiniLM", TrainSettings(), 3, "1.0", REWARD),
        ("s-1", "other", TrainSettings(), 3, "1.0", REWARD),
        ("s-1", "MiniLM", TrainSettings(epochs=1), 3, "1.0", REWARD),
        ("s-1", "MiniLM", replace(TrainSettings(), network=NetworkSettings(heads=2)), 3, "1.0", REWARD),
        ("s-1", "MiniLM", TrainSettings(), 4, "1.0", REWARD),
        ("s-1", "MiniLM", TrainSettings(), 3, "1.1", REWARD),
        ("s-1", "MiniLM", TrainSettings(), 3, "1.0", 1.0 - REWARD),
    ],
)
def test_every_input_changes_the_id(other: tuple[str, str, TrainSettings, int, str, np.ndarray]) -> None:
    assert model_digest(*other) != "d361c8bb821787fe"
