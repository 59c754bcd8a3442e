"""Embedding through the cache: each text once, slice by slice, with a result independent of the cache's content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from memstore.embedding.cache import VectorCache
from memstore.embedding.cached import SLICE, embed_cached
from memstore.embedding.protocol import ProgressCallback
from memstore.errors import InputError
from memstore.testing.doubles.embedder import GivenEmbedder, HashEmbedder
from memstore.types import FloatMatrix


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder(8)


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache.open(tmp_path, 8)


def test_equal_texts_are_embedded_once(embedder: HashEmbedder, cache: VectorCache) -> None:
    vectors = embed_cached(embedder, cache, ["a", "b", "a", "a"])
    assert embedder.calls == 2
    assert np.array_equal(vectors, embedder.embed(["a", "b", "a", "a"]))


def test_a_second_call_embeds_only_new_texts(embedder: HashEmbedder, cache: VectorCache) -> None:
    embed_cached(embedder, cache, ["a", "b"])
    reported: list[int] = []
    vectors = embed_cached(embedder, cache, ["c", "b", "b", "a"], reported.append)
    assert embedder.calls == 3
    assert reported == [3, 1]
    assert np.array_equal(vectors, embedder.embed(["c", "b", "b", "a"]))


def test_an_interrupted_embedding_loses_at_most_one_slice(tmp_path: Path) -> None:
    class Interrupted(HashEmbedder):
        def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> FloatMatrix:
            if self.calls == SLICE:
                raise KeyboardInterrupt
            return super().embed(texts, progress)

    texts = [f"text {number}" for number in range(SLICE + 10)]
    with pytest.raises(KeyboardInterrupt):
        embed_cached(Interrupted(8), VectorCache.open(tmp_path, 8), texts)
    embedder, cache = HashEmbedder(8), VectorCache.open(tmp_path, 8)
    assert len(cache) == SLICE
    vectors = embed_cached(embedder, cache, texts)
    assert embedder.calls == 10
    assert np.array_equal(vectors, embedder.embed(texts))


def test_no_texts_give_an_empty_matrix(embedder: HashEmbedder, cache: VectorCache) -> None:
    assert embed_cached(embedder, cache, []).shape == (0, 8)


def test_a_blank_text_is_rejected(embedder: HashEmbedder, cache: VectorCache) -> None:
    with pytest.raises(InputError, match="blank"):
        embed_cached(embedder, cache, ["a", " \n"])


def test_the_given_embedder_rejects_texts_without_a_vector() -> None:
    vectors = HashEmbedder(8).embed(["a", "b"])
    embedder = GivenEmbedder(["a", "b"], vectors)
    assert np.array_equal(embedder.embed(["b", "a"]), vectors[::-1])
    assert embedder.fingerprint.dimension == 8
    assert GivenEmbedder(["a", "b"], vectors[::-1]).fingerprint != embedder.fingerprint
    with pytest.raises(InputError, match="'c'"):
        embedder.embed(["c"])


def test_the_hash_embedder_has_the_same_vectors_on_every_machine() -> None:
    vector = HashEmbedder(4).embed(["a text"])[0]
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-6)
    np.testing.assert_allclose(vector, [-0.58732855, 0.37939325, 0.66012019, 0.27449456], atol=1e-6)
