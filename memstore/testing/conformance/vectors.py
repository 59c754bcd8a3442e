"""Conformance suite of vector stores, as a class of pytest tests.

    class TestMyVectors(VectorStoreConformance):
        @pytest.fixture
        def open_store(self, tmp_path):
            def open_store(**options):              # fingerprint, dimension, namespace
                return MyVectors.open(tmp_path / "vectors", **options)
            return open_store

`open_store` opens the same store each time; the suite passes the defaults below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from memstore.errors import EmbedderError, InputError, StoreError
from memstore.types import FloatMatrix
from memstore.vectors.protocol import VectorStore

FINGERPRINT = "tiny_8_c0ffee00"
DIMENSION = 8
OpenStore = Callable[..., VectorStore]


def unit_vectors(count: int, seed: int = 0, dimension: int = DIMENSION) -> FloatMatrix:
    """Random unit vectors float32 [count, dimension], the same for the same seed."""
    vectors = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def names(count: int, prefix: str = "t") -> list[str]:
    """Ids as the memory makes them."""
    return [f"{prefix}-{number:024x}" for number in range(count)]


class VectorStoreConformance:
    """Subclass it and provide `open_store`."""

    @pytest.fixture
    def open_store(self) -> OpenStore:
        """Opens the same store each time: `open_store(fingerprint=, dimension=, namespace=)`."""
        raise NotImplementedError

    @pytest.fixture
    def opener(self, open_store: OpenStore) -> Iterator[OpenStore]:
        """`open_store` with defaults, with the opened stores closed after the test."""
        opened: list[VectorStore] = []

        def opener(**options: Any) -> VectorStore:
            store = open_store(
                **{"fingerprint": FINGERPRINT, "dimension": DIMENSION, "namespace": "default", **options}
            )
            opened.append(store)
            return store

        yield opener
        for store in opened:
            store.close()

    @pytest.fixture
    def store(self, opener: OpenStore) -> VectorStore:
        """An empty store."""
        return opener()

    def test_a_new_store_is_empty(self, store: VectorStore) -> None:
        assert store.count() == 0
        assert [name for block in store.ids("query") for name in block] == []
        assert store.missing(["t-1"]) == ["t-1"]
        fetched = store.fetch(["t-1"])
        assert not fetched.found.any()
        assert fetched.vectors.shape == (1, DIMENSION)
        assert store.search("query", unit_vectors(2), 3).ids.tolist() == [["", "", ""]] * 2
        assert store.collections() == [FINGERPRINT]

    def test_vectors_are_returned_bit_for_bit_in_the_order_requested(self, store: VectorStore) -> None:
        vectors = unit_vectors(50)
        vectors[0, 0] = np.float32(1e-45)
        vectors[1, 0] = np.float32(-0.0)
        store.upsert("thinking", names(50), vectors)
        order = np.random.default_rng(1).permutation(50)
        fetched = store.fetch([names(50)[i] for i in order])
        assert fetched.found.all()
        assert fetched.vectors.dtype == np.float32
        assert fetched.vectors.tobytes() == vectors[order].tobytes()

    def test_rows_are_found_before_and_after_a_flush(self, store: VectorStore) -> None:
        store.upsert("thinking", names(20), unit_vectors(20))
        store.flush()
        store.upsert("query", names(5, "q"), unit_vectors(5, seed=1))
        assert store.count() == 25
        assert (store.count("thinking"), store.count("query")) == (20, 5)
        assert np.array_equal(store.fetch(names(20)).vectors, unit_vectors(20))

    def test_rows_are_found_after_reopening(self, opener: OpenStore) -> None:
        first = opener()
        first.upsert("thinking", names(20), unit_vectors(20))
        first.flush()
        first.upsert("thinking", names(30)[20:], unit_vectors(30)[20:])
        first.close()
        again = opener()
        assert again.count() == 30
        assert np.array_equal(again.fetch(names(30)).vectors[:20], unit_vectors(20))

    def test_upsert_replaces_one_row_an_id(self, store: VectorStore) -> None:
        store.upsert("thinking", names(10), unit_vectors(10))
        store.flush()
        store.upsert("thinking", names(15)[5:], unit_vectors(10, seed=2))
        assert store.count() == 15
        assert np.array_equal(store.fetch(names(15)[5:]).vectors, unit_vectors(10, seed=2))
        found = store.search("thinking", unit_vectors(10)[5:], 15)
        assert all(len(set(row)) == 15 for row in found.ids.tolist())

    def test_an_id_moves_with_its_kind(self, store: VectorStore) -> None:
        store.upsert("thinking", names(2), unit_vectors(2))
        store.upsert("query", names(1), unit_vectors(1))
        assert (store.count("thinking"), store.count("query")) == (1, 1)

    def test_missing_and_found_keep_order_and_repeats(self, store: VectorStore) -> None:
        store.upsert("thinking", ["t-2", "t-4"], unit_vectors(2))
        assert store.missing(["t-5", "t-4", "t-1", "t-2", "t-5"]) == ["t-5", "t-1", "t-5"]
        fetched = store.fetch(["t-4", "t-1", "t-4", "t-2"])
        assert fetched.found.tolist() == [True, False, True, True]
        assert not fetched.vectors[1].any()
        assert np.array_equal(fetched.vectors[0], fetched.vectors[2])

    def test_ids_are_listed_completely_each_once(self, store: VectorStore) -> None:
        store.upsert("thinking", names(6000), unit_vectors(6000))
        store.upsert("query", names(7, "q"), unit_vectors(7))
        store.upsert("thinking", names(100), unit_vectors(100, seed=3))
        store.delete(names(6000)[5990:])
        listed = [name for block in store.ids("thinking") for name in block]
        assert sorted(listed) == sorted(names(5990))
        assert sorted(name for block in store.ids("query") for name in block) == names(7, "q")

    def test_search_agrees_with_all_pairs(self, store: VectorStore) -> None:
        held, asked = unit_vectors(300), unit_vectors(20, seed=4)
        store.upsert("thinking", names(300), held)
        store.upsert("query", names(50, "q"), asked[:1].repeat(50, axis=0))
        store.flush()
        hits = store.search("thinking", asked, 5)
        exact = asked @ held.T
        best = np.argsort(-exact, axis=1)[:, :5]
        assert hits.ids.tolist() == [[names(300)[i] for i in row] for row in best]
        assert hits.scores.dtype == np.float32
        np.testing.assert_allclose(hits.scores, np.take_along_axis(exact, best, axis=1), atol=1e-6)

    def test_search_pads_the_result_if_fewer_than_k_exist(self, store: VectorStore) -> None:
        store.upsert("query", names(3, "q"), unit_vectors(3))
        hits = store.search("query", unit_vectors(2), 5)
        assert hits.ids.shape == hits.scores.shape == (2, 5)
        assert (hits.ids[:, :3] != "").all()
        assert (hits.ids[:, 3:] == "").all()
        assert np.isneginf(hits.scores[:, 3:]).all()
        assert hits.scores.max() <= 1.0
        np.testing.assert_allclose(hits.scores[:, 0], 1.0, atol=1e-6)

    def test_search_of_nothing(self, store: VectorStore) -> None:
        store.upsert("query", names(3, "q"), unit_vectors(3))
        assert store.search("query", np.zeros((0, DIMENSION), np.float32), 2).ids.shape == (0, 2)

    def test_deleted_ids_may_be_written_again(self, store: VectorStore) -> None:
        store.upsert("thinking", names(10), unit_vectors(10))
        store.flush()
        store.delete([*names(4), "t-never"])
        assert store.count() == 6
        assert store.missing(names(10)) == names(4)
        assert set(store.search("thinking", unit_vectors(1), 10).ids[0]) == {"", *names(10)[4:]}
        store.upsert("thinking", names(1), unit_vectors(1, seed=5))
        assert np.array_equal(store.fetch(names(1)).vectors, unit_vectors(1, seed=5))

    def test_empty_calls_do_nothing(self, store: VectorStore) -> None:
        store.upsert("thinking", [], np.zeros((0, DIMENSION), np.float32))
        store.delete([])
        assert store.missing([]) == []
        assert store.fetch([]).vectors.shape == (0, DIMENSION)
        assert store.count() == 0

    @pytest.mark.parametrize(
        ("ids", "vectors"),
        [
            (["t-1"], unit_vectors(1, dimension=4)),
            (["t-1", "t-2"], unit_vectors(1)),
            (["t-1", "t-1"], unit_vectors(2)),
            (["t-1", "t'2"], unit_vectors(2)),
            (["t-1"], np.full((1, DIMENSION), np.nan, np.float32)),
            (["t-1"], np.full((1, DIMENSION), np.inf, np.float32)),
            (["t-1"], np.ones((1, DIMENSION), np.float64)),
        ],
        ids=["dimension", "count", "repeat", "quote", "nan", "infinity", "float64"],
    )
    def test_bad_rows_are_refused_and_nothing_is_written(
        self, store: VectorStore, ids: list[str], vectors: FloatMatrix
    ) -> None:
        with pytest.raises(InputError):
            store.upsert("thinking", ids, vectors)
        assert store.count() == 0

    def test_a_search_for_no_neighbours_is_refused(self, store: VectorStore) -> None:
        with pytest.raises(InputError):
            store.search("query", unit_vectors(1), 0)

    def test_namespaces_do_not_see_each_other(self, opener: OpenStore) -> None:
        with opener(namespace="one") as one:
            one.upsert("thinking", names(5), unit_vectors(5))
        with opener(namespace="two") as two:
            assert two.count() == 0
            two.upsert("thinking", names(3), unit_vectors(3, seed=6))
            two.delete(names(1))
            assert set(two.search("thinking", unit_vectors(1), 9).ids[0]) == {"", *names(3)[1:]}
        with opener(namespace="one") as one:
            assert one.count() == 5
            assert np.array_equal(one.fetch(names(5)).vectors, unit_vectors(5))

    def test_embedders_do_not_see_each_other(self, opener: OpenStore) -> None:
        with opener() as first:
            first.upsert("thinking", names(5), unit_vectors(5))
        with opener(fingerprint="other_4_deadbeef", dimension=4) as other:
            assert other.count() == 0
            assert other.collections() == sorted([FINGERPRINT, "other_4_deadbeef"])

    def test_another_projects_embedders_are_not_listed(self, opener: OpenStore) -> None:
        with opener(namespace="one") as one:
            one.upsert("thinking", names(5), unit_vectors(5))
        with opener(namespace="two", fingerprint="other_8_deadbeef") as two:
            assert two.collections() == ["other_8_deadbeef"]

    def test_an_embedder_that_is_discarded_is_gone_from_this_namespace_only(self, opener: OpenStore) -> None:
        for namespace in ("one", "two"):
            with opener(namespace=namespace) as store:
                store.upsert("thinking", names(5), unit_vectors(5))
        with opener(namespace="one", fingerprint="other_4_deadbeef", dimension=4) as other:
            other.discard(FINGERPRINT)
            other.discard(FINGERPRINT)
            assert other.collections() == ["other_4_deadbeef"]
            with pytest.raises(InputError, match="in use"):
                other.discard("other_4_deadbeef")
        with opener(namespace="one") as again:
            assert again.count() == 0
        with opener(namespace="two") as two:
            assert two.count() == 5

    def test_names_that_differ_a_little_are_different_namespaces(self, opener: OpenStore) -> None:
        """Names that would collide if they were truncated or case-folded, or were prefixes of one another's ids."""
        namespaces = ["a", "A", "a-b", "a_b", "a" * 128, "a" * 127]
        for number, namespace in enumerate(namespaces, start=1):
            with opener(namespace=namespace) as store:
                assert store.count() == 0
                store.upsert("thinking", names(number), unit_vectors(number))
        for number, namespace in enumerate(namespaces, start=1):
            with opener(namespace=namespace) as store:
                assert sorted(name for block in store.ids("thinking") for name in block) == names(number)
                assert store.missing(names(9)) == names(9)[number:]
                assert len({name for name in store.search("thinking", unit_vectors(1), 20).ids[0] if name}) == number

    def test_another_dimension_under_the_same_name_is_refused(self, opener: OpenStore) -> None:
        opener().close()
        with pytest.raises(EmbedderError, match="8"):
            opener(dimension=4)

    def test_a_closed_store_raises(self, opener: OpenStore) -> None:
        store = opener()
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.count()
        with pytest.raises(StoreError, match="closed"):
            store.upsert("thinking", names(1), unit_vectors(1))
