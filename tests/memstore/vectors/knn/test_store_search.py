"""Links by a store's index: exact where the index is, with a measured recall where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from memstore.testing.conformance.vectors import unit_vectors
from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn import LinkSettings, Neighbours, link_all, link_new
from memstore.vectors.knn.store_search import WIDTHS, StoreSearch, measured_recall

HOW = LinkSettings(k=4, floor=0.1)


class Index:
    """A store over these vectors; it misses `blind` nodes in searches narrower than `exact_from`."""

    def __init__(self, held: FloatMatrix, blind: BoolVector | None = None, exact_from: int = 0) -> None:
        self.held = held
        self.blind = np.zeros(len(held), dtype=bool) if blind is None else blind
        self.exact_from = exact_from
        self.searches: list[tuple[int, int, int]] = []

    def __call__(self, vectors: FloatMatrix, hits: int, width: int) -> IntVector:
        self.searches.append((len(vectors), hits, width))
        score = vectors @ self.held.T
        if width < self.exact_from:
            score[:, self.blind] = -np.inf
        best = np.argsort(-score, axis=1, kind="stable")[:, :hits]
        found = np.full((len(vectors), hits), -1, dtype=np.int64)
        found[:, : best.shape[1]] = np.where(np.isfinite(np.take_along_axis(score, best, axis=1)), best, -1)
        return found


def grouped(count: int, sizes: int = 6) -> tuple[FloatMatrix, IntVector]:
    rng = np.random.default_rng(3)
    return unit_vectors(count, dimension=16), rng.permutation(np.arange(count) // sizes)


def assert_same(got: Neighbours, wanted: Neighbours) -> None:
    np.testing.assert_array_equal(got.index, wanted.index)
    np.testing.assert_array_equal(got.score.view(np.uint32), wanted.score.view(np.uint32))


@pytest.mark.parametrize("with_groups", [True, False])
def test_with_an_exact_index_the_lists_are_those_of_the_arrays(with_groups: bool) -> None:
    vectors, group = grouped(500)
    groups = group if with_groups else None
    served = link_all(vectors, groups, HOW, store=Index(vectors))
    assert_same(served, link_all(vectors, groups, HOW))
    assert measured_recall(vectors, groups, served, HOW) == 1.0


def test_a_node_of_a_large_group_still_finds_k_others() -> None:
    vectors, group = grouped(300)
    group[:150] = 0
    assert_same(link_all(vectors, group, HOW, store=Index(vectors)), link_all(vectors, group, HOW))


def test_old_nodes_gain_new_neighbours_and_only_new_ones_are_searched_for() -> None:
    vectors, group = grouped(400)
    is_new = np.random.default_rng(1).random(400) < 0.1
    old = link_all(vectors[~is_new], group[~is_new], HOW)
    before = Neighbours.none(400, HOW.k)
    place = np.flatnonzero(~is_new)
    before.index[~is_new] = np.where(old.index >= 0, place[old.index], -1)
    before.score[~is_new] = old.score
    index: StoreSearch = Index(vectors)
    after, changed = link_new(vectors, group, is_new, before, HOW, store=index)
    wanted = link_all(vectors, group, HOW)
    gains = (wanted.index != before.index).any(axis=1) & ~is_new
    assert gains.any()
    assert_same(
        Neighbours(after.index[is_new], after.score[is_new]), Neighbours(wanted.index[is_new], wanted.score[is_new])
    )
    # A hundred hits of four hundred nodes, and more where they are wanted, reach nearly everyone.
    assert (after.index == wanted.index)[gains].all(axis=1).mean() > 0.95
    assert changed[is_new].all()
    assert max(rows for rows, _, _ in index.searches) <= is_new.sum()


def test_the_width_grows_until_the_index_finds_enough() -> None:
    vectors, group = grouped(500)
    blind = np.random.default_rng(2).random(500) < 0.3
    index = Index(vectors, blind, exact_from=WIDTHS[1])
    served = link_all(vectors, group, HOW, store=index)
    assert index.searches[-1][2] == WIDTHS[1]
    assert_same(served, link_all(vectors, group, HOW))


def test_the_measured_recall_counts_what_the_index_missed() -> None:
    vectors, group = grouped(500)
    blind = np.random.default_rng(2).random(500) < 0.3
    served = link_all(vectors, group, HOW, store=Index(vectors, blind, exact_from=10**9))
    exact = link_all(vectors, group, HOW)
    found = sum(len(set(a) & set(b) - {-1}) for a, b in zip(served.index.tolist(), exact.index.tolist(), strict=True))
    true = int((exact.index >= 0).sum())
    assert measured_recall(vectors, group, served, HOW) == pytest.approx(found / true, abs=0.05)
    assert found < 0.95 * true


def test_a_floor_above_every_score_gives_no_links_and_full_recall() -> None:
    vectors, group = grouped(50)
    how = LinkSettings(k=3, floor=1.0)
    served = link_all(vectors, group, how, store=Index(vectors))
    assert (served.index == -1).all()
    assert measured_recall(vectors, group, served, how) == 1.0
