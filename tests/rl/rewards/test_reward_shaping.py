"""Reward shaping, and its effect on GRPO advantages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.types import BoolVector, FloatVector
from memstore_rl.rewards.reward import SHAPINGS, Shaping
from memstore_rl.rewards.shaping import ROUNDING, Predicted, ShapingSettings, shape

RESIDUAL = ShapingSettings("residual")


@st.composite
def predictions(draw: st.DrawFn) -> Predicted:
    """Draw a group: its answers, and probabilities that are equal for equal answers."""
    answer = np.array(draw(st.lists(st.integers(0, 4), min_size=1, max_size=12)))
    chances, votes = (draw(st.lists(st.integers(0, 1000), min_size=5, max_size=5)) for _ in range(2))
    return Predicted(np.array(chances)[answer] / 1000, answer, np.array(votes)[answer] / 1000, answer)


def shaped(group: Predicted, shaping: Shaping, spread: float = 0.0) -> FloatVector:
    return shape(group, ShapingSettings(shaping, spread)).value


def advantage(reward: FloatVector) -> FloatVector:
    return np.asarray(reward - reward.mean())


@given(predictions())
def test_advantage_is_the_expectation_of_grpos_own(group: Predicted) -> None:
    probability, answer = group.probability, group.answer
    expected = np.zeros(len(answer))
    for value in np.unique(answer):
        right = (answer == value).astype(float)
        if 0 < right.mean() < 1:
            chance = probability[answer == value][0]
            expected += chance * (right - right.mean()) / right.std()
    made = shaped(group, "advantage")
    if len(np.unique(answer)) > 1:
        assert advantage(made) == pytest.approx(advantage(expected), abs=1e-9)
    else:
        assert made == pytest.approx(probability)


@given(predictions(), st.sampled_from(SHAPINGS))
def test_equal_answers_have_equal_rewards_to_the_last_bit(group: Predicted, shaping: Shaping) -> None:
    made = shaped(group, shaping)
    assert np.isfinite(made).all()
    for value in np.unique(group.answer):
        assert len(set(made[group.answer == value].tolist())) == 1


@given(predictions())
def test_threshold_and_probability(group: Predicted) -> None:
    assert shaped(group, "threshold").tolist() == [float(p >= 0.5) for p in group.probability]
    assert shaped(group, "probability").tolist() == group.probability.tolist()


@given(predictions())
def test_shrunk_lies_between_group_mean_and_probability(group: Predicted) -> None:
    probability = group.probability
    mean, made = probability.mean(), shaped(group, "shrunk")
    assert (np.abs(made - mean) <= np.abs(probability - mean) + 1e-12).all()
    assert ((made - mean) * (probability - mean) >= -1e-12).all()
    assert made[probability == 0.5] == pytest.approx(mean)
    sure = (probability == 0) | (probability == 1)
    assert made[sure] == pytest.approx(probability[sure])


@given(predictions(), st.sampled_from(SHAPINGS), st.integers(0, 100).map(lambda percent: percent / 100))
def test_flat_group_gets_one_reward(group: Predicted, shaping: Shaping, spread: float) -> None:
    made, silent = shape(group, ShapingSettings(shaping, spread))
    residual = shaping == "residual"
    values = group.probability - group.by_votes if residual else group.probability
    assert silent == (np.ptp(values) < (max(spread, ROUNDING) if residual else spread))
    if silent:
        assert made.tolist() == [values.mean()] * len(made)
    else:
        assert made.tolist() == shaped(group, shaping).tolist()


@given(predictions(), st.floats(0.1, 10))
def test_residual_is_weight_times_probability_less_votes(group: Predicted, weight: float) -> None:
    made = shape(group, ShapingSettings("residual", residual_weight=weight)).value
    assert made == pytest.approx(weight * (group.probability - group.by_votes), abs=1e-9 + weight * ROUNDING)


@given(predictions(), st.floats(-0.3, 0.3))
def test_group_of_which_the_model_knows_the_votes_only_is_silent(group: Predicted, beyond: float) -> None:
    """A difference that all rollouts share is no advantage either."""
    made, silent = shape(group._replace(probability=np.round(group.by_votes + beyond, 6)), RESIDUAL)
    assert silent
    assert len(set(made.tolist())) == 1
    assert advantage(made) == pytest.approx(0, abs=1e-12)


@given(predictions(), st.data())
def test_predictions_beside_verdicts_keep_their_differences_on_the_scale_of_probabilities(
    group: Predicted, data: st.DataObject
) -> None:
    size = len(group.answer)
    judged: BoolVector = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    judged[data.draw(st.integers(0, size - 1))] = False
    alone, mixed = shape(group, RESIDUAL), shape(group, RESIDUAL, judged)
    open_ = ~judged
    assert advantage(mixed.value[open_]) == pytest.approx(advantage(alone.value[open_]), abs=2 * ROUNDING)
    if judged.any():
        assert mixed.value[open_].mean() == pytest.approx(group.probability[open_].mean())
        assert not mixed.silent


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("residual", 0.0, 0.0), "residual_weight is 0; it must be a number above 0"),
        (("residual", 0.0, float("nan")), "residual_weight is nan"),
        (("residual", 0.0, float("inf")), "residual_weight is inf"),
        (("residual", 1.5), "min_spread is 1.5"),
        (("shrunk", 0.0, 4.0), "residual_weight belongs to shaping residual, but shaping is shrunk"),
        (("round",), "no shaping 'round'"),
    ],
)
def test_invalid_settings_are_one_sentence(settings: tuple[Shaping, float, float], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        ShapingSettings(*settings)
    assert "\n" not in str(error.value)
