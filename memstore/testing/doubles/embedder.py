"""Deterministic embedders for tests and benchmarks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from memstore.embedding.protocol import Fingerprint, ProgressCallback
from memstore.errors import InputError
from memstore.types import FloatMatrix


class HashEmbedder:
    """Embedder whose unit vector is the hash of the text, the same on every machine. For tests only."""

    def __init__(self, dimension: int = 32) -> None:
        self.fingerprint = Fingerprint("hash", "shake256", dimension, True, 0, "head")
        self.calls = 0
        """Number of texts embedded so far."""

    def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> FloatMatrix:
        """Unit vectors float32 [N, D] of non-blank texts, in their order."""
        _refuse_blank(texts)
        dimension = self.fingerprint.dimension
        raw = b"".join(hashlib.shake_256(text.encode()).digest(4 * dimension) for text in texts)
        numbers = np.frombuffer(raw, dtype="<u4").reshape(len(texts), dimension)
        vectors = numbers / 2.0**31 - 1.0
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        self.calls += len(texts)
        if progress is not None and texts:
            progress(len(texts))
        return vectors.astype(np.float32)


class GivenEmbedder:
    """Embedder that returns given vectors (float32 [N, D], unit length), for benchmarks and property tests."""

    def __init__(self, texts: Sequence[str], vectors: FloatMatrix) -> None:
        revision = hashlib.blake2b(np.ascontiguousarray(vectors).data, digest_size=6).hexdigest()
        self.fingerprint = Fingerprint("given", revision, vectors.shape[1], True, 0, "head")
        self._row = {text: row for row, text in enumerate(texts)}
        self._vectors = vectors

    def embed(self, texts: Sequence[str], progress: ProgressCallback | None = None) -> FloatMatrix:
        """The vectors of these texts, in their order.

        Raises:
            InputError: a text that is blank or was not given.
        """
        _refuse_blank(texts)
        try:
            rows = [self._row[text] for text in texts]
        except KeyError as error:
            raise InputError(f"no vector was given for the text {error.args[0][:60]!r}") from error
        if progress is not None and texts:
            progress(len(texts))
        return self._vectors[rows]


def _refuse_blank(texts: Sequence[str]) -> None:
    for position, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"text {position} is blank; there is nothing to embed")
