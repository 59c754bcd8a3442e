"""Windows cover the tokens they should, and batches hold each window once with windows of its padded length."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memstore.embedding.windows import MAX_WINDOWS, PAD_TO, batches, cut, rows_in


@pytest.mark.parametrize(
    ("tokens", "long_text", "expected"),
    [
        ([], "mean", [[]]),
        ([1, 2, 3], "mean", [[1, 2, 3]]),
        ([1, 2, 3, 4], "mean", [[1, 2], [3, 4]]),
        ([1, 2, 3, 4, 5, 6, 7], "mean", [[1, 2], [3, 4, 5], [6, 7]]),
        ([1, 2, 3, 4], "head", [[1, 2, 3]]),
        ([1, 2, 3, 4], "tail", [[2, 3, 4]]),
    ],
)
def test_windows_of_three(tokens: list[int], long_text: str, expected: list[list[int]]) -> None:
    pieces = cut(tokens, 3, long_text)  # type: ignore[arg-type]
    assert [list(piece) for piece in pieces] == expected or sorted(map(len, pieces)) == sorted(map(len, expected))
    if long_text == "mean":
        assert [token for piece in pieces for token in piece] == tokens
    else:
        assert [list(piece) for piece in pieces] == expected


@given(st.integers(0, 200), st.integers(1, 20))
def test_mean_uses_every_token_once_in_windows_of_equal_size(count: int, size: int) -> None:
    tokens = list(range(count))
    pieces = cut(tokens, size, "mean")
    if count <= MAX_WINDOWS * size:
        assert [token for piece in pieces for token in piece] == tokens
        assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
        assert max(map(len, pieces)) <= size
    else:
        half = MAX_WINDOWS // 2 * size
        assert [token for piece in pieces for token in piece] == tokens[:half] + tokens[-half:]


@given(st.lists(st.integers(2, 250), max_size=60), st.integers(1, 600))
def test_batches_hold_each_window_once_with_windows_of_its_length(lengths: list[int], budget: int) -> None:
    array = np.array(lengths, dtype=np.int64)
    seen: list[int] = []
    for batch in batches(array, budget, 250):
        mine = array[batch.windows]
        assert 1 <= len(mine) <= rows_in(batch.length, budget)
        assert (mine <= batch.length).all()
        assert (mine > batch.length - PAD_TO).all()
        assert batch.length % PAD_TO == 0 or batch.length == 250
        assert len({bool(length == batch.length) for length in mine}) == 1, "full windows share a batch with others"
        seen += batch.windows.tolist()
    assert sorted(seen) == list(range(len(lengths)))
