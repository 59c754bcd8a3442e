"""Inverse temperature of a domain, estimated from the slopes of its data sets."""

from __future__ import annotations

import numpy as np
import pytest

from memstore_gnn.models.calibration import sigmoid
from memstore_gnn.models.inverse_temperature import PRIOR, SetPredictions, inverse_temperatures

ROLLOUTS, WEIGHT = 4000, 200.0


def predictions(slope: float, domain: str, seed: int, shift: float = 0.0) -> SetPredictions:
    """Data set whose labels are drawn with the log odds `slope * logit + shift`."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(scale=1.5, size=ROLLOUTS)
    label = (rng.random(ROLLOUTS) < sigmoid(slope * logit + shift)).astype(np.float64)
    return SetPredictions(logit, label, np.full(ROLLOUTS, WEIGHT / ROLLOUTS), np.full(ROLLOUTS, domain, dtype=object))


def test_inverse_temperature_is_the_mean_slope_shrunk_to_one() -> None:
    found = inverse_temperatures(
        [predictions(2.0, "math", 0), predictions(2.0, "math", 1), predictions(0.6, "code", 2)]
    )
    assert list(found) == ["code", "math"]
    assert found["math"] == pytest.approx(2.0 ** (2 / 3), rel=0.1)
    assert found["code"] == pytest.approx(0.6 ** (1 / 2), rel=0.1)


def test_more_data_sets_shrink_less() -> None:
    one = inverse_temperatures([predictions(2.0, "math", 0)])["math"]
    four = inverse_temperatures([predictions(2.0, "math", seed) for seed in range(4)])["math"]
    assert 1.0 < one < four < 2.1


def test_share_of_right_rollouts_does_not_change_the_inverse_temperature() -> None:
    assert inverse_temperatures([predictions(1.0, "qa", 0, shift=1.0)])["qa"] == pytest.approx(1.0, abs=0.1)


def test_data_set_with_two_domains_counts_for_both() -> None:
    math, code = predictions(2.0, "math", 0), predictions(0.6, "code", 1)
    both = SetPredictions._make(np.concatenate(parts) for parts in zip(math, code, strict=True))
    assert inverse_temperatures([both]) == pytest.approx(inverse_temperatures([math, code]))


@pytest.mark.parametrize(
    ("slope", "bound"), [(-1.0, PRIOR.min_inverse_temperature), (100.0, PRIOR.max_inverse_temperature)]
)
def test_slope_of_a_data_set_is_bounded(slope: float, bound: float) -> None:
    found = inverse_temperatures([predictions(slope, "math", 0)])["math"]
    assert min(bound**0.5, 1.0) <= found <= max(bound**0.5, 1.0)
    assert (found > 1.0) == (slope > 1.0)
