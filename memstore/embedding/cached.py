"""Embed texts through the cache: read the cached vectors and compute the missing ones, one slice at a time.

Each slice is synced to disk before the next starts, so a crash loses at most one slice. `Embedder.embed` is
batch-invariant, so the result does not depend on the slicing or on what was cached before.
"""

from __future__ import annotations

from collections.abc import Sequence

from memstore.embedding.cache import VectorCache
from memstore.embedding.protocol import Embedder, ProgressCallback
from memstore.records.ids import vector_key
from memstore.types import FloatMatrix

SLICE = 2_000
"""Texts per write to the cache."""


def embed_cached(
    embedder: Embedder, cache: VectorCache, texts: Sequence[str], progress: ProgressCallback | None = None
) -> FloatMatrix:
    """Return unit vectors, float32 [N, D], of non-blank texts in their order; equal texts are embedded once.

    Args:
        progress: called with the number of texts finished; cached texts are reported first.

    Raises:
        InputError: a text is blank.
        StoreFullError: the disk is full; the slices written so far are kept.
    """
    keys = [vector_key(text) for text in texts]
    absent = cache.lookup(keys) < 0
    missing = {key: text for key, text, lacks in zip(keys, texts, absent, strict=True) if lacks}
    if progress is not None and len(texts) > len(missing):
        progress(len(texts) - len(missing))
    wanted = list(missing)
    for start in range(0, len(wanted), SLICE):
        part = wanted[start : start + SLICE]
        cache.append(part, embedder.embed([missing[key] for key in part], progress))
    return cache.vectors(cache.lookup(keys))
