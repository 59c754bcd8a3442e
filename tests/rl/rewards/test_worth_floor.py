"""The floor of a step whose groups come one after another: the budget goes to pairs of nearly the largest worth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore_rl.rewards.worth_floor import WorthFloor

CALLS, GROUPS, PAIRS = 12, 16, 4


def spend(floor: WorthFloor, step: int, groups: list[list[float]], settled: float = 0.0, seed: int = 0) -> list[float]:
    """Buy a step's pairs as a buyer does, a group at a time; a bought pair settles the rest of its group sometimes."""
    rng, bought = np.random.default_rng(seed), list[float]()
    for worths in groups:
        least = floor.begin(step, worths)
        for worth in sorted(worths, reverse=True):
            if worth >= least and len(bought) < CALLS:
                bought.append(worth)
                if rng.random() < settled:
                    break
    return bought


def draw(seed: int) -> list[list[float]]:
    return np.random.default_rng(seed).beta(1, 4, (GROUPS, PAIRS)).tolist()


@pytest.mark.parametrize("settled", [0.0, 0.4])
def test_the_budget_goes_to_the_best_pairs(settled: float) -> None:
    floor = WorthFloor(CALLS)
    whole = single = first_come = 0.0
    calls = []
    for step in range(40):
        groups = draw(step)
        bought = spend(floor, step, groups, settled, step)
        if step < 8:
            continue
        calls.append(len(bought))
        single += sum(bought)
        whole += sum(sorted((worth for of in groups for worth in of), reverse=True)[:CALLS])
        first_come += sum(spend(WorthFloor(CALLS), step, groups, settled, step))
    assert first_come < 0.6 * whole
    assert single > (0.7 if settled else 0.85) * whole
    assert np.mean(calls) > 0.8 * CALLS


def test_no_floor_in_the_first_step_and_after_a_step_in_one_batch() -> None:
    floor = WorthFloor(2)
    assert floor.begin(1, [0.1, 0.2, 0.3]) == 0.0
    assert floor.begin(2, [0.1, 0.2, 0.3]) == 0.0
    assert floor.begin(2, [0.4]) == 0.0
    assert floor.begin(3, []) == 0.3


def test_no_floor_without_a_limit_a_step() -> None:
    floor = WorthFloor(None)
    for step in range(3):
        assert floor.begin(step, [0.1]) == floor.begin(step, [0.5]) == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.floats(0, 0.25), max_size=6)), max_size=30))
def test_a_floor_is_a_worth_that_occurred(batches: list[tuple[int, list[float]]]) -> None:
    floor, seen = WorthFloor(2), {0.0}
    for step, worths in batches:
        assert floor.begin(step, worths) in seen
        seen.update(worths)
