"""Abstention: bands, risks, and withheld or shrunk rewards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from memstore.errors import InputError, ModelError
from memstore_gnn.scoring.abstain import COVERAGES, Mode, abstain, band_for, risk_bands
from memstore_gnn.scoring.score import Scores

PROBABILITIES = arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1))


def scores(probability: list[float], label: list[float] | None = None) -> Scores:
    """Scores of rollouts, with a label where `label` is a number."""
    p = np.array(probability)
    known = np.full(len(p), np.nan) if label is None else np.array(label)
    source = np.where(np.isfinite(known), "ground_truth", "predicted").astype(object)
    ids = np.array([f"t{i}" for i in range(len(p))], dtype=object)
    return Scores(ids, p, np.where(np.isfinite(known), known, p), source, *np.full((2, len(p)), None, object))


def test_band_is_chosen_by_risk() -> None:
    """Ten rollouts: the six most confident are right, and two of the other four are wrong."""
    probability = np.array([0.95, 0.95, 0.05, 0.9, 0.1, 0.9, 0.6, 0.6, 0.4, 0.4])
    reward = np.array([1, 1, 0, 1, 0, 1, 1, 0, 0, 1], float)
    bands = risk_bands(probability, reward, np.arange(10))
    assert (bands[0].coverage, bands[0].band, bands[0].risk) == (1.0, 0.0, pytest.approx(0.2))
    card = [one._asdict() | {"error": 0.0} for one in bands]
    assert band_for(card, 0.2, "m") == 0.0
    band = band_for(card, 0.1, "m")
    assert band == pytest.approx(0.4)
    sure = np.abs(probability - 0.5) >= band
    assert sure.sum() == 6
    assert np.array_equal(probability[sure] > 0.5, reward[sure] > 0.5)


@given(PROBABILITIES)
def test_bands_widen_and_the_chosen_band_keeps_its_risk(probability: np.ndarray) -> None:
    reward = np.random.default_rng(len(probability)).integers(0, 2, len(probability)).astype(float)
    bands = risk_bands(probability, reward, np.arange(len(probability)) // 2)
    assert len(bands) == len(COVERAGES)
    assert [one.band for one in bands] == sorted(one.band for one in bands)
    assert [one.coverage for one in bands] == sorted((one.coverage for one in bands), reverse=True)
    for one, wanted in zip(bands, COVERAGES, strict=True):
        assert one.coverage >= wanted - 1e-9
        sure = np.abs(probability - 0.5) >= one.band
        assert one.risk == pytest.approx(np.mean((probability > 0.5)[sure] != (reward > 0.5)[sure]))


def test_fewer_queries_have_a_larger_standard_error() -> None:
    """Twenty rollouts without an error, from twenty queries or from one."""
    sure, right = np.full(20, 0.9), np.ones(20)
    many, one = (risk_bands(sure, right, query)[0] for query in (np.arange(20), np.zeros(20, int)))
    assert many.risk == one.risk == 0.0
    assert 0.0 < many.error < one.error
    assert band_for([many._asdict()], 0.1, "m") == 0.0
    with pytest.raises(ModelError, match="the lowest is 0.000 ± 0.15"):
        band_for([one._asdict()], 0.1, "m")


def test_risk_without_a_band_raises() -> None:
    card = [one._asdict() for one in risk_bands(np.array([0.9, 0.8]), np.zeros(2), np.arange(2))]
    with pytest.raises(ModelError, match=r"no band of model m-1 has a risk of 0.1: the lowest is 1.000"):
        band_for(card, 0.1, "m-1")
    with pytest.raises(ModelError, match="has no held-out risks"):
        band_for([], 0.1, "m-1")
    with pytest.raises(InputError, match="between 0 and 1"):
        band_for(card, 2.0, "m-1")


def test_uncertain_reward_is_withheld() -> None:
    given = scores([0.9, 0.55, 0.45, 0.5], [np.nan, np.nan, np.nan, 1.0])
    held = abstain(given, np.zeros(4, int), 0.1, Mode.WITHHOLD)
    assert held.source.tolist() == ["predicted", "abstained", "abstained", "ground_truth"]
    assert np.isnan(held.reward).tolist() == [False, True, True, False]
    assert (held.reward[0], held.reward[3]) == (0.9, 1.0)
    assert np.array_equal(held.probability, given.probability)


def test_uncertain_reward_is_shrunk_to_the_group_mean() -> None:
    given = scores([0.9, 0.55, 0.3, 0.45], [np.nan, np.nan, np.nan, np.nan])
    shrunk = abstain(given, np.array([7, 7, 7, 2]), 0.1, Mode.SHRINK)
    assert shrunk.source.tolist() == ["predicted", "shrunk", "predicted", "shrunk"]
    assert shrunk.reward.tolist() == pytest.approx([0.9, (0.9 + 0.55 + 0.3) / 3, 0.3, 0.45])


@given(PROBABILITIES, st.floats(0, 0.5), st.sampled_from(list(Mode)))
def test_confident_reward_is_unchanged(probability: np.ndarray, band: float, mode: Mode) -> None:
    given = scores(probability.tolist())
    after = abstain(given, np.arange(len(probability)) // 3, band, mode)
    sure = np.abs(probability - 0.5) >= band
    assert np.array_equal(after.reward[sure], probability[sure])
    assert (after.source[sure] == "predicted").all()
    assert (after.source[~sure] != "predicted").all()


def test_band_outside_its_range_raises() -> None:
    with pytest.raises(InputError, match="between 0 and 0.5"):
        abstain(scores([0.5]), np.zeros(1, int), 0.7, Mode.SHRINK)
    assert abstain(scores([]), np.zeros(0, int), 0.2, Mode.SHRINK).reward.shape == (0,)
