"""Vectors of the texts being scored: read from the cache, or embedded once and max_unflushed for the recorder.

The memory's cache is written in durable blocks, and a block per request would mean a file per request. So new vectors
stay in RAM until the recorder flushes them as one large block. Beyond `MAX_UNFLUSHED`, the oldest are dropped and the
recorder's ingest embeds them again, which costs time only.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from memstore.embedding.cache import VectorCache
from memstore.embedding.protocol import Embedder
from memstore.records.ids import vector_key
from memstore.types import FloatMatrix

MAX_UNFLUSHED = 131_072
"""Maximum number of unflushed vectors: 200 MB at 384 dimensions."""


class TextVectors:
    """Vectors of texts by content. One thread may embed while another flushes."""

    def __init__(self, embedder: Embedder, cache: VectorCache, *, max_unflushed: int = MAX_UNFLUSHED) -> None:
        self._embedder = embedder
        self._cache = cache
        self._max_unflushed = max_unflushed
        self._fresh: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """Return unit vectors float32 [N, D] of non-blank texts, in order."""
        keys = [vector_key(text) for text in texts]
        rows = self._cache.lookup(keys)
        found = np.empty((len(keys), self._cache.dimension), np.float32)
        cached = rows >= 0
        found[cached] = self._cache.vectors(rows[cached])
        absent = np.flatnonzero(~cached).tolist()
        with self._lock:
            fresh = {key: self._fresh.get(key) for key in {keys[i] for i in absent}}
        missing = {keys[i]: texts[i] for i in absent if fresh[keys[i]] is None}
        if missing:
            made = dict(zip(missing, self._embedder.embed(list(missing.values())), strict=True))
            fresh.update(made)
            self._keep(made)
        for i in absent:
            found[i] = fresh[keys[i]]
        return found

    def _keep(self, made: dict[str, NDArray[np.float32]]) -> None:
        with self._lock:
            self._fresh.update(made)
            while len(self._fresh) > self._max_unflushed:
                self._fresh.popitem(last=False)

    def flush(self) -> int:
        """Append the new vectors to the memory's cache as one block; return how many."""
        with self._lock:
            flushed = dict(self._fresh)
        if not flushed:
            return 0
        self._cache.append(list(flushed), np.stack(list(flushed.values())))
        with self._lock:
            for key in flushed:
                self._fresh.pop(key, None)
        return len(flushed)
