"""Features of a row: a list of finite numbers, or a reason."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from memstore.errors import RecordError
from memstore.records.record import MAX_FEATURES, RecordDefaults, parse_record
from memstore.types import FloatMatrix

ROW = {"query": "2 + 3?", "answer": "5"}


def features_of(value: Any) -> FloatMatrix | None:
    """The features of a row with this value, as float32 [F]."""
    features = parse_record({**ROW, "features": value}, RecordDefaults()).features
    return None if features is None else np.frombuffer(features, np.float32)


@pytest.mark.parametrize("value", [[0.1, -2, 3], (0.1, -2, 3)])
def test_numbers_become_float32(value: Any) -> None:
    assert np.array_equal(features_of(value), np.array([0.1, -2, 3], np.float32))


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_missing_value_is_none(value: Any) -> None:
    assert features_of(value) is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": 1}, "features must be a list of numbers, not an object; rename the key or leave it out"),
        ("0.1, 0.2", "features must be a list of numbers, not text"),
        ([], "features has 0 numbers; it must have between 1 and 32768"),
        ([0.0] * (MAX_FEATURES + 1), "features has 32769 numbers"),
        ([0.1, "0.2"], "features must be a list of numbers; one of its values is none"),
        ([[0.1, 0.2]], "features must be a list of numbers; one of its values is none"),
        ([0.1, None], "features must be a list of numbers; one of its values is none"),
        ([0.1, math.nan], "not a finite number of 32 bits"),
        ([1e39], "not a finite number of 32 bits"),
        ([10**400], "one of its values is none"),
    ],
)
def test_other_values_are_rejected_with_a_reason(value: Any, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        features_of(value)


def test_features_are_no_metadata() -> None:
    assert parse_record({**ROW, "features": [1.0]}, RecordDefaults()).metadata is None
