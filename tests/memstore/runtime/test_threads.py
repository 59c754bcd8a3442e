"""Tests of calculations in threads."""

from __future__ import annotations

import os
import threading

import pytest

from memstore.runtime.threads import in_threads


@pytest.mark.parametrize("cores", [None, 1, 2])
def test_results_come_in_order(cores: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert in_threads(lambda number: number * number, range(50)) == [number * number for number in range(50)]


def test_two_cores_calculate_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    both = threading.Barrier(2, timeout=10)
    in_threads(lambda _: both.wait(), [0, 1])


def test_an_exception_is_raised() -> None:
    def invert(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        in_threads(invert, [1, 2, 0, 3])
