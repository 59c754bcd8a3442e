"""Reward shaping, and its effect on GRPO advantages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.types import FloatVector, IntVector
from memstore_rl.rewards.shaping import SHAPINGS, Shaping, shape

Prediction = tuple[FloatVector, IntVector]


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    """Draw a group: its answers, and probabilities that are equal for equal answers."""
    answer = np.array(draw(st.lists(st.integers(0, 4), min_size=1, max_size=12)))
    chances = draw(st.lists(st.integers(0, 1000), min_size=5, max_size=5))
    return np.array(chances)[answer] / 1000, answer


@given(predictions())
def test_advantage_is_the_expectation_of_grpos_own(group: Prediction) -> None:
    probability, answer = group
    expected = np.zeros(len(answer))
    for value in np.unique(answer):
        right = (answer == value).astype(float)
        if 0 < right.mean() < 1:
            chance = probability[answer == value][0]
            expected += chance * (right - right.mean()) / right.std()
    made = shape(probability, answer, "advantage")
    if len(np.unique(answer)) > 1:
        assert made - made.mean() == pytest.approx(expected - expected.mean(), abs=1e-9)
    else:
        assert made == pytest.approx(probability)


@given(predictions(), st.sampled_from(SHAPINGS))
def test_equal_answers_have_equal_rewards_to_the_last_bit(group: Prediction, shaping: Shaping) -> None:
    probability, answer = group
    made = shape(probability, answer, shaping)
    assert np.isfinite(made).all()
    for value in np.unique(answer):
        assert len(set(made[answer == value].tolist())) == 1


@given(predictions())
def test_threshold_and_probability(group: Prediction) -> None:
    probability, answer = group
    assert shape(probability, answer, "threshold").tolist() == [float(p >= 0.5) for p in probability]
    assert shape(probability, answer, "probability").tolist() == probability.tolist()


@given(predictions())
def test_shrunk_lies_between_group_mean_and_probability(group: Prediction) -> None:
    probability, answer = group
    mean, made = probability.mean(), shape(probability, answer, "shrunk")
    assert (np.abs(made - mean) <= np.abs(probability - mean) + 1e-12).all()
    assert ((made - mean) * (probability - mean) >= -1e-12).all()
    assert made[probability == 0.5] == pytest.approx(mean)
    sure = (probability == 0) | (probability == 1)
    assert made[sure] == pytest.approx(probability[sure])


@given(predictions(), st.sampled_from(SHAPINGS), st.integers(0, 100).map(lambda percent: percent / 100))
def test_flat_group_gets_one_reward(group: Prediction, shaping: Shaping, spread: float) -> None:
    probability, answer = group
    made = shape(probability, answer, shaping, spread)
    if np.ptp(probability) < spread:
        assert made.tolist() == [probability.mean()] * len(made)
    else:
        assert made.tolist() == shape(probability, answer, shaping).tolist()
