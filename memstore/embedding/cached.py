"""Embedding through the cache: what is held is read, what is missing is embedded, a slice at a time.

Each slice is durable before the next begins, so that a kill costs at most one. An embedder gives a text the same
bits whatever stands beside it, so neither the slices nor what was held before can be told from the result.
"""

from __future__ import annotations

from collections.abc import Sequence

from memstore.embedding.cache import VectorCache
from memstore.embedding.protocol import Embedder, Progress
from memstore.records.ids import vector_key
from memstore.types import FloatMatrix

SLICE = 2_000
"""Texts that are embedded between two writes to the cache."""


def embed_cached(
    embedder: Embedder, cache: VectorCache, texts: Sequence[str], progress: Progress | None = None
) -> FloatMatrix:
    """Unit vectors float32 [N, D] of non-blank texts, in their order; equal texts are embedded once.

    Args:
        progress: is told of every text once, those that needed no embedding first.

    Raises:
        InputError: a text that is blank.
        StoreFullError: no space for the cache; the slices before are kept.
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
