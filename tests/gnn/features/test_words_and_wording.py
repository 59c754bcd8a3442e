"""The fast counts of words and wording equal those of scikit-learn and of `wording_of`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

from memstore_gnn.features import words as module
from memstore_gnn.features.wording import NAMES, wording_columns, wording_of
from memstore_gnn.features.words import Words

BUCKETS = 2**15
PIECES = [
    "maybe", "perhaps", "waitwait", "thus", "hence", "so the ", "the answer is", "assumption", "option b", "choice c",
    "(a)", "\na)", "b.", "#", "**", "\\boxed", "\n- ", "\n12. ", "```", "<<", " I ", " we ", "let's", ".", "\n", " ",
    "_", "é", "Ünsure", "3.14", "don't know", "\x1f", "final answer",
]  # fmt: skip
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=12).map("".join)


def by_scikit_learn(texts: list[str]) -> csr_matrix:
    token = r"[A-Za-z]+|[^\sA-Za-z0-9]|\n|\d"
    hashing = HashingVectorizer(
        ngram_range=(1, 2), n_features=BUCKETS, token_pattern=token, norm=None, alternate_sign=False, lowercase=False
    )
    return hashing.transform(texts)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_words_have_the_buckets_of_scikit_learn(texts: list[str]) -> None:
    words = Words(BUCKETS)
    for _ in range(2):  # the second time from the lookup
        assert (words.count(texts) != by_scikit_learn(texts)).nnz == 0


def test_many_texts_are_counted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 3)
    monkeypatch.setattr(module, "FEW", 9)
    texts = [f"one {'two ' * i}three" for i in range(10)]
    assert (Words(BUCKETS).count(texts) != by_scikit_learn(texts)).nnz == 0


def test_a_full_lookup_is_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    words = Words(BUCKETS)
    for text in ("one two three four five six", "six five four", "one two"):
        assert (words.count([text]) != by_scikit_learn([text])).nnz == 0


def test_repeated_texts_have_the_same_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHED_TEXTS", 2)
    words = Words(BUCKETS)
    for texts in (["one two", ""], ["three", "one two", "one two"], ["", "four one two one"], ["one two", "four"]):
        assert (words.count(texts) != by_scikit_learn(texts)).nnz == 0


def test_threads_share_a_lookup() -> None:
    texts = [[f"word{i} is {i % 7} and {i % 11}: x{j}" for i in range(50)] for j in range(20)]
    words = Words(BUCKETS)
    with ThreadPoolExecutor(4) as pool:
        for counted, own in zip(pool.map(words.count, texts), texts, strict=True):
            assert (counted != by_scikit_learn(own)).nnz == 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.sampled_from(["a", "B", "12", ""])), min_size=1, max_size=4))
def test_columns_equal_the_wording_of_each_rollout(rollouts: list[tuple[str, str]]) -> None:
    texts, values = (list(part) for part in zip(*rollouts, strict=True))
    query = "maybe the answer is 3.14"
    columns = wording_columns(texts, values, [query], [0] * len(texts))
    expected = [wording_of(text, value, frozenset(query.split())) for text, value in rollouts]
    made = np.column_stack([columns[name] for name in NAMES])
    np.testing.assert_array_equal(made, np.array(expected))


def test_an_empty_memory_has_no_rows() -> None:
    assert {len(column) for column in wording_columns([], [], [], []).values()} == {0}
    assert Words(BUCKETS).count([]).shape == (0, BUCKETS)
