"""Plain values are transferred unchanged; everything else is rejected."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, deque
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore_rl.sandbox.inside.values import NotPlain, pack, unpack

scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats(allow_nan=False)
    | st.text() | st.text(st.characters(categories=["Cs"])) | st.binary() | st.complex_numbers(allow_nan=False)
    | st.fractions() | st.decimals(allow_nan=False) | st.binary().map(bytearray)
)  # fmt: skip
keys = st.none() | st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner) | st.sets(keys)
        | st.frozensets(keys) | st.lists(inner).map(deque)
    ),
    max_leaves=30,
)  # fmt: skip
json_forms = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(["int", "list", "dict", "set", "range", "fraction", "decimal", "complex", "bytes", "items"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)  # fmt: skip


@given(values)
def test_plain_values_round_trip(value: object) -> None:
    back = unpack(json.loads(json.dumps(pack(value))))
    assert type(back) is type(value)
    assert back == value


@given(json_forms)
def test_any_form_gives_a_value_or_a_value_error(form: object) -> None:
    try:
        unpack(json.loads(json.dumps(form)))
    except ValueError:
        return


class Cheat(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def test_subclasses_arrive_as_their_base() -> None:
    assert type(unpack(pack(Cheat(5)))) is int
    assert unpack(pack(Cheat(5))) != 6
    assert type(unpack(pack(OrderedDict(a=1)))) is dict
    assert type(unpack(pack(True))) is bool


def test_nan_and_infinity_round_trip() -> None:
    assert math.isnan(unpack(json.loads(json.dumps(pack(float("nan"))))))
    assert unpack(pack([Decimal("Infinity"), Fraction(1, 3)])) == [Decimal("Infinity"), Fraction(1, 3)]


@pytest.mark.parametrize("value", [object(), len, int, json, Cheat, ..., NotImplemented, slice(1), memoryview(b"")])
def test_other_objects_are_rejected(value: object) -> None:
    with pytest.raises(NotPlain, match="an object of class"):
        pack([value])


@pytest.mark.parametrize(
    "form",
    [
        {},
        [],
        [1],
        ["eval", "1"],
        ["__class__"],
        ["list", ["object", "x"]],
        ["int", 5],
        ["int", "xyz"],
        ["range", 1, 2, 0],
        ["range", 1],
        ["fraction", 1, 0],
        ["fraction", "1", "2"],
        ["dict", 5],
        ["set", ["list"]],
        ["decimal", "x"],
        ["complex", "1", None],
        ["bytes", "zz"],
    ],
)
def test_invalid_forms_are_rejected(form: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        unpack(form)
