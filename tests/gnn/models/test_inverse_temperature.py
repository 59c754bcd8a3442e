"""How sharp a domain's votes are: learned from its sets, drawn to one, and no more than a slope."""

from __future__ import annotations

import numpy as np
import pytest

from memstore_gnn.models.calibration import sigmoid
from memstore_gnn.models.inverse_temperature import LEAST, MOST, Said, sharpness_of

ROLLOUTS, WEIGHT = 4000, 200.0


def said(slope: float, domain: str, seed: int, shift: float = 0.0) -> Said:
    """A set whose truth is as likely as `slope` times its log odds say, and a shift."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(scale=1.5, size=ROLLOUTS)
    label = (rng.random(ROLLOUTS) < sigmoid(slope * logit + shift)).astype(np.float64)
    return Said(logit, label, np.full(ROLLOUTS, WEIGHT / ROLLOUTS), np.full(ROLLOUTS, domain, dtype=object))


def test_a_domain_is_as_sharp_as_its_sets_drawn_to_one() -> None:
    found = sharpness_of([said(2.0, "math", 0), said(2.0, "math", 1), said(0.6, "code", 2)])
    assert list(found) == ["code", "math"]
    assert found["math"] == pytest.approx(2.0 ** (2 / 3), rel=0.1)
    assert found["code"] == pytest.approx(0.6 ** (1 / 2), rel=0.1)


def test_more_sets_of_a_domain_say_more() -> None:
    one = sharpness_of([said(2.0, "math", 0)])["math"]
    four = sharpness_of([said(2.0, "math", seed) for seed in range(4)])["math"]
    assert 1.0 < one < four < 2.1


def test_how_often_rollouts_are_right_is_no_sharpness() -> None:
    assert sharpness_of([said(1.0, "qa", 0, shift=1.0)])["qa"] == pytest.approx(1.0, abs=0.1)


def test_a_set_of_two_domains_speaks_for_both() -> None:
    math, code = said(2.0, "math", 0), said(0.6, "code", 1)
    both = Said._make(np.concatenate(parts) for parts in zip(math, code, strict=True))
    assert sharpness_of([both]) == pytest.approx(sharpness_of([math, code]))


@pytest.mark.parametrize(("slope", "bound"), [(-1.0, LEAST), (100.0, MOST)])
def test_no_set_counts_for_more_than_the_bounds(slope: float, bound: float) -> None:
    found = sharpness_of([said(slope, "math", 0)])["math"]
    assert min(bound**0.5, 1.0) <= found <= max(bound**0.5, 1.0)
    assert (found > 1.0) == (slope > 1.0)
