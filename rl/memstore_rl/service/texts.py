"""Vectors of the texts that are scored: held ones are read, new ones embedded once and kept for the recorder.

The memory's cache takes vectors in blocks, durably; a block for every request would be a file for every request. So
what is embedded while scoring stays in working memory until the recorder settles it, a large block at a time. What
falls out before that, when more than `KEPT` wait, is embedded again by the recorder's ingest: time, nothing else.
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

KEPT = 131_072
"""Vectors that wait in working memory at most: 200 MB of 384 dimensions."""


class TextVectors:
    """Vectors of texts by content. One thread may embed while another settles."""

    def __init__(self, embedder: Embedder, cache: VectorCache, *, kept: int = KEPT) -> None:
        self._embedder = embedder
        self._cache = cache
        self._kept = kept
        self._fresh: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        """Unit vectors float32 [N, D] of non-blank texts, in their order."""
        keys = [vector_key(text) for text in texts]
        rows = self._cache.lookup(keys)
        found = np.empty((len(keys), self._cache.dimension), np.float32)
        held = rows >= 0
        found[held] = self._cache.vectors(rows[held])
        absent = np.flatnonzero(~held).tolist()
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
            while len(self._fresh) > self._kept:
                self._fresh.popitem(last=False)

    def settle(self) -> int:
        """Make what was embedded since durable in the memory's cache, as one block; return how many vectors."""
        with self._lock:
            settled = dict(self._fresh)
        if not settled:
            return 0
        self._cache.append(list(settled), np.stack(list(settled.values())))
        with self._lock:
            for key in settled:
                self._fresh.pop(key, None)
        return len(settled)
