"""Parts of the link search: exact score, error bound, duplicates, lists and input checks."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memstore.errors import InputError
from memstore.types import FloatMatrix
from memstore.vectors.knn import LinkSettings, Neighbours, link_all, link_new, nearest
from memstore.vectors.knn.blocked import FastVectors, fast_dtype
from memstore.vectors.knn.duplicates import find_duplicates
from memstore.vectors.knn.score import pair_scores


def unit(count: int, dim: int, seed: int = 0) -> FloatMatrix:
    x = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_three_nodes_by_hand() -> None:
    """East, north-east and north at k=1: the middle one ties and takes the first, unless they are of one group."""
    half = np.sqrt(np.float32(0.5))
    vectors = np.array([[1, 0], [half, half], [0, 1]], dtype=np.float32)
    assert link_all(vectors, None, LinkSettings(k=1)).index.tolist() == [[1], [0], [1]]
    grouped = link_all(vectors, np.array([0, 0, 1]), LinkSettings(k=1, floor=0.1))
    assert grouped.index.tolist() == [[-1], [2], [1]]
    assert grouped.score[0, 0] == -np.inf


def test_a_score_is_one_rounding_away_from_the_true_product_and_symmetric() -> None:
    vectors = unit(200, 384)
    left, right = np.random.default_rng(1).integers(200, size=(2, 5000))
    there, back = pair_scores(vectors, left, right), pair_scores(vectors, right, left)
    true = np.array([np.dot(vectors[a].astype(np.longdouble), vectors[b]) for a, b in zip(left, right, strict=True)])
    np.testing.assert_array_equal(there, back)
    np.testing.assert_array_equal(there, true.astype(np.float32))


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from([torch.bfloat16, torch.float32]),
    dim=st.sampled_from([1, 2, 7, 64, 384]),
    spread=st.sampled_from([0.0, 1.0, 6.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_error_bound_of_fast_scores_holds(dtype: torch.dtype, dim: int, spread: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((96, dim)) * np.exp(spread * rng.standard_normal((96, dim)))).astype(np.float32)
    fast = FastVectors(rows, dtype)
    true = torch.from_numpy(rows).double() @ torch.from_numpy(rows).double().T
    error = (fast.scores(np.arange(96), fast.x).double() - true).abs()
    assert bool((error <= fast.error[:, None].double()).all())


def test_float32_products_ignore_the_reduced_precision_switch_of_torch() -> None:
    """`set_float32_matmul_precision("medium")` lets torch multiply float32 as bf16, which breaks the error bound."""
    rows = unit(256, 384)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        fast = FastVectors(rows, torch.float32)
        scores = fast.scores(np.arange(256), fast.x)
    finally:
        torch.set_float32_matmul_precision(before)
    true = torch.from_numpy(rows).double() @ torch.from_numpy(rows).double().T
    assert float((scores.double() - true).abs().max()) < 1e-6


def test_the_fast_precision_is_one_of_two() -> None:
    assert fast_dtype(384) in (torch.bfloat16, torch.float32)


def test_the_nearest_of_a_query_skip_its_own_group_and_end_where_there_are_no_more() -> None:
    """Three candidates, two of them of the query's group: one neighbour, then none."""
    found = nearest(unit(1, 8), unit(3, 8), 2, query_group=np.array([7]), candidate_group=np.array([7, 1, 7]))
    assert found.present.sum() == 1
    assert found.position[found.present].tolist() == [1]
    np.testing.assert_allclose(found.score[found.present], unit(3, 8)[1] @ unit(1, 8)[0], rtol=1e-5)


def test_the_scores_of_a_query_do_not_depend_on_the_queries_beside_it() -> None:
    queries, candidates = unit(100, 48), unit(500, 48, seed=1)
    together, alone = nearest(queries, candidates, 5), nearest(queries[:1], candidates, 5)
    np.testing.assert_array_equal(together.score[0], alone.score[0])
    assert set(together.position[0]) == set(np.argsort(-(candidates @ queries[0]))[:5])


def test_duplicates_are_searched_for_once_and_few_are_offered() -> None:
    """Node 9 differs; of 0 to 8, which are equal, two a group are kept at k=2, and of those the four first."""
    vectors = np.tile(np.float32([0.6, 0.8]), (10, 1))
    vectors[9] = [1, 0]
    first, offers = find_duplicates(vectors, np.array([0, 0, 0, 1, 1, 2, 2, 3, 0, 0]), k=2)
    assert first.tolist() == [0, 0, 0, 3, 3, 5, 5, 7, 0, 9]
    assert np.flatnonzero(offers).tolist() == [0, 1, 3, 4, 9]


def test_thousands_of_equal_vectors_tie_by_position_and_cost_little() -> None:
    """6,000 nodes of which 5,000 are equal, each in a group of its own: the first five equal ones win everywhere."""
    rng = np.random.default_rng(0)
    vectors = unit(6000, 48)
    same = np.sort(rng.choice(6000, 5000, replace=False))
    vectors[same] = vectors[same[0]]
    lists = link_all(vectors, None, LinkSettings())
    assert (lists.index[same[5:]] == same[:5]).all()
    assert lists.index[same[0]].tolist() == same[1:6].tolist()
    offered = find_duplicates(vectors, np.arange(6000), 5).offers
    assert offered.sum() == 1010


def test_a_pair_offered_twice_counts_once() -> None:
    lists = Neighbours.none(2, 3)
    for _ in range(2):
        lists.offer(np.array([1, 1, 1]), np.array([0, 0, 7]), np.float32([0.5, 0.5, 0.5]))
    assert lists.index.tolist() == [[-1, -1, -1], [0, 7, -1]]


def test_a_call_too_large_for_exactness_finds_almost_all() -> None:
    """Two thirds come first; both steps take the inverted file. Scores are exact for what is found."""
    rng = np.random.default_rng(0)
    centres = unit(150, 32)
    vectors = centres[rng.integers(150, size=6000)] + np.float32(0.1) * rng.standard_normal(
        (6000, 32), dtype=np.float32
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    group = rng.integers(1500, size=6000)
    wanted = link_all(vectors, group, LinkSettings())

    how, is_new = LinkSettings(exact_up_to=100), rng.random(6000) < 1 / 3
    here = np.flatnonzero(~is_new)
    earlier = link_all(vectors[here], group[here], how)
    old = Neighbours.none(6000, 5)
    old.index[here] = np.where(earlier.index >= 0, here[earlier.index], -1)
    old.score[here] = earlier.score
    found, changed = link_new(vectors, group, is_new, old, how)

    recall = np.mean([len(np.intersect1d(a, b)) for a, b in zip(found.index, wanted.index, strict=True)]) / 5
    assert recall > 0.95
    assert (group[found.index] != group[:, None]).all()
    assert (found.score <= wanted.score).all()
    assert changed[is_new].all()
    assert 0 < changed[here].mean() < 1


def test_nothing_new_changes_nothing() -> None:
    vectors = unit(50, 8)
    lists = link_all(vectors, None, LinkSettings())
    again, changed = link_new(vectors, None, np.zeros(50, dtype=np.bool_), lists, LinkSettings())
    assert not changed.any()
    np.testing.assert_array_equal(again.index, lists.index)


def test_no_nodes_and_a_lone_node_have_no_neighbours() -> None:
    assert link_all(unit(0, 8), None, LinkSettings()).index.shape == (0, 5)
    assert (link_all(unit(1, 8), None, LinkSettings()).index == -1).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"k": 0}, "k of at least 1"), ({"floor": 1.5}, "between -1 and 1"), ({"exact_up_to": -1}, "0 or more")],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        LinkSettings(**wrong)  # type: ignore[arg-type]


def test_arrays_that_do_not_match_are_refused() -> None:
    vectors = unit(4, 8)
    with pytest.raises(InputError, match="got 3, 4"):
        link_all(vectors, np.arange(3), LinkSettings())
    vectors[2, 1] = np.nan
    with pytest.raises(InputError, match="position 2"):
        link_all(vectors, None, LinkSettings())


def test_importing_knn_imports_no_torch() -> None:
    code = "import sys, memstore.vectors.knn; sys.exit('torch' in sys.modules or 'faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
