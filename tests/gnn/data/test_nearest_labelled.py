"""Nearest labelled neighbours, by full comparison and by the nearest queries."""

from __future__ import annotations

import numpy as np
import pytest

from memstore_gnn.data import neighbours as module
from memstore_gnn.data.neighbours import Labelled, Nearest, Rows, nearest_labelled

QUERIES, GROUP, DIMENSION, K = 40, 6, 16, 5


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def memory() -> tuple[Labelled, Labelled]:
    rng = np.random.default_rng(0)
    every = np.arange(QUERIES)
    owner = np.repeat(every, GROUP)
    query_x, thinking_x = unit(rng.normal(size=(QUERIES, DIMENSION))), unit(rng.normal(size=(len(owner), DIMENSION)))
    order = rng.permutation(len(owner))  # positions are by id, not by query
    thinkings = Labelled(thinking_x[order], rng.random(len(owner)), owner[order], np.arange(len(owner)))
    return Labelled(query_x, rng.random(QUERIES), every, every), thinkings


@pytest.fixture(scope="module")
def rows(memory: tuple[Labelled, Labelled]) -> Rows:
    """Two queries of the memory, with three thinkings each, and two new ones with four."""
    rng = np.random.default_rng(1)
    x = unit(np.concatenate((memory[0].vectors[[3, 7]], rng.normal(size=(2, DIMENSION)))))
    query_of = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3])
    known = np.ones(len(query_of), bool)
    known[5] = False
    own = np.array([3, 7, -1, -1])
    return Rows(x, np.ones(4, bool), own, unit(rng.normal(size=(len(query_of), DIMENSION))), known, query_of)


def by_full_comparison(vectors: np.ndarray, own: np.ndarray, labelled: Labelled, allowed: np.ndarray) -> list[set[int]]:
    """The K nearest nodes of the allowed queries, row by row."""
    found = []
    for row, vector in enumerate(vectors):
        cosine = labelled.vectors @ vector
        cosine[(labelled.query == own[row]) | ~np.isin(labelled.query, allowed[row])] = -np.inf
        found.append(set(np.argsort(-cosine)[:K].tolist()))
    return found


def sets(near: Nearest) -> list[set[int]]:
    return [set(position[present].tolist()) for position, present in zip(near.position, near.present, strict=True)]


def test_a_small_memory_is_compared_in_full(memory: tuple[Labelled, Labelled], rows: Rows) -> None:
    near = nearest_labelled(*memory, rows, K)
    every = np.tile(np.arange(QUERIES), (len(rows.query_of), 1))
    assert sets(near.query) == by_full_comparison(rows.query_x, rows.query, memory[0], every)
    expected = by_full_comparison(rows.thinking_x, rows.query[rows.query_of], memory[1], every)
    assert sets(near.thinking) == [
        own if known else set() for own, known in zip(expected, rows.thinking_known, strict=True)
    ]


def test_a_large_memory_is_searched_by_the_nearest_queries(
    memory: tuple[Labelled, Labelled], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = nearest_labelled(*memory, rows, K)
    monkeypatch.setattr(module, "EXACT_UP_TO", 100)
    monkeypatch.setattr(module, "WIDE", 8)
    near = nearest_labelled(*memory, rows, K)
    assert sets(near.query) == sets(exact.query)
    cosine = rows.query_x @ memory[0].vectors.T
    cosine[np.arange(2), rows.query[:2]] = -np.inf
    eight = np.argsort(-cosine, axis=1)[:, :8]
    expected = by_full_comparison(rows.thinking_x, rows.query[rows.query_of], memory[1], eight[rows.query_of])
    assert sets(near.thinking) == [
        own if known else set() for own, known in zip(expected, rows.thinking_known, strict=True)
    ]
    at = near.thinking.position[near.thinking.present]
    row = np.nonzero(near.thinking.present)[0]
    direct = np.einsum("nd,nd->n", memory[1].vectors[at], rows.thinking_x[row])
    np.testing.assert_allclose(near.thinking.cosine[near.thinking.present], direct, atol=1e-6)


def test_both_searches_agree_if_all_queries_are_near(
    memory: tuple[Labelled, Labelled], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = nearest_labelled(*memory, rows, K)
    monkeypatch.setattr(module, "EXACT_UP_TO", 100)
    monkeypatch.setattr(module, "WIDE", QUERIES)
    near = nearest_labelled(*memory, rows, K)
    assert sets(near.thinking) == sets(exact.thinking)


@pytest.mark.parametrize("exact_up_to", [100, 10_000])
def test_neighbours_do_not_depend_on_the_other_groups(
    memory: tuple[Labelled, Labelled], rows: Rows, monkeypatch: pytest.MonkeyPatch, exact_up_to: int
) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", exact_up_to)
    together = nearest_labelled(*memory, rows, K)
    for query in range(4):
        mine = rows.query_of == query
        alone = Rows(
            rows.query_x[[query]], rows.query_known[[query]], rows.query[[query]],
            rows.thinking_x[mine], rows.thinking_known[mine], np.zeros(int(mine.sum()), np.int64),
        )  # fmt: skip
        near = nearest_labelled(*memory, alone, K)
        for part, whole in ((near.thinking, Nearest(*(p[mine] for p in together.thinking))),
                            (near.query, Nearest(*(p[[query]] for p in together.query)))):  # fmt: skip
            assert sets(part) == sets(whole)
            np.testing.assert_allclose(np.sort(part.cosine), np.sort(whole.cosine), atol=1e-6)


@pytest.mark.parametrize("exact_up_to", [-1, 10])
def test_without_labels_there_are_no_neighbours(rows: Rows, monkeypatch: pytest.MonkeyPatch, exact_up_to: int) -> None:
    monkeypatch.setattr(module, "EXACT_UP_TO", exact_up_to)
    none = Labelled(np.zeros((0, DIMENSION), np.float32), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    near = nearest_labelled(none, none, rows, K)
    assert not near.query.present.any()
    assert not near.thinking.present.any()
