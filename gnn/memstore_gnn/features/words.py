"""Count words, punctuation and pairs of neighbours in hash buckets, like scikit-learn's `HashingVectorizer`.

Words and pairs repeat across rollouts, so their hashes are cached. The counts of recent texts are cached as well:
agreeing rollouts often have equal texts, and a group can be scored twice. Buckets and counts equal scikit-learn's
(MurmurHash3 of the word, or of both words with a space between, modulo the number of buckets); it takes half the
time.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from memstore.types import BoolVector, FloatVector, IntVector

_TOKEN = re.compile(r"[A-Za-z]+|[^\sA-Za-z0-9]|\n|\d")
BLOCK = 8192
"""Texts whose words are in memory at once."""
FEW = 512
"""Largest number of texts in one call whose counts are cached; a larger call is a whole memory, read once."""
CACHED_TEXTS = 4096
"""Latest texts whose counts are cached: about 25 MB for long texts."""
MOST = 1_000_000
"""Cached pairs, about 100 MB; the cache is emptied beyond this number, so that a long-running service does not grow."""


class Words:
    """Thread-safe counter of words and pairs with a cache of their hashes; `buckets` is the number of buckets."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets
        self._lock = threading.Lock()
        self._cache = _HashCache(buckets)
        self._texts: OrderedDict[str, _Row] = OrderedDict()

    def count(self, texts: Sequence[str]) -> csr_matrix:
        """Count words and pairs of neighbours: sparse float64 [T, buckets], indices sorted."""
        if 0 < len(texts) <= FEW:
            return self._few(texts)
        blocks = [self._count(texts[start : start + BLOCK]) for start in range(0, max(len(texts), 1), BLOCK)]
        return blocks[0] if len(blocks) == 1 else vstack(blocks, format="csr")

    def _few(self, texts: Sequence[str]) -> csr_matrix:
        with self._lock:
            rows = {text: self._texts.get(text) for text in texts}
        new = [text for text, row in rows.items() if row is None]
        if new:
            counts = self._count(new)
            made = {
                text: _Row(counts.indices[start:end].copy(), counts.data[start:end].copy())
                for text, start, end in zip(new, counts.indptr[:-1], counts.indptr[1:], strict=True)
            }
            rows.update(made)
            with self._lock:
                self._texts.update(made)
                while len(self._texts) > CACHED_TEXTS:
                    self._texts.popitem(last=False)
        found = [row for row in map(rows.get, texts) if row is not None]
        starts = np.cumsum([0, *(len(row.bucket) for row in found)])
        parts = np.concatenate([row.hits for row in found]), np.concatenate([row.bucket for row in found])
        return csr_matrix((*parts, starts), shape=(len(texts), self.buckets))

    def _count(self, texts: Sequence[str]) -> csr_matrix:
        tokens = [_TOKEN.findall(text) for text in texts]
        length = np.fromiter(map(len, tokens), np.int64, len(tokens))
        owner = np.repeat(np.arange(len(tokens)), length)
        inside = owner[1:] == owner[:-1]
        with self._lock:
            if len(self._cache.pairs) > MOST:
                self._cache = _HashCache(self.buckets)
            bucket = self._cache.buckets_of(list(chain.from_iterable(tokens)), inside)
        row = np.concatenate((owner, owner[1:][inside]))
        return _counts(row * self.buckets + bucket, len(tokens), self.buckets)


class _Row(NamedTuple):
    """Buckets of a text, ascending, with their counts."""

    bucket: NDArray[np.int32]
    hits: FloatVector


class _HashCache(dict[str, int]):
    """Cache of hashes: maps a word to a code, and codes to buckets. A new word gets the next code."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.count = buckets
        self.words: list[str] = []
        self.buckets: list[int] = []
        self.pairs = _Pairs(self)

    def buckets_of(self, tokens: list[str], inside: BoolVector) -> IntVector:
        """Buckets of the words, then of the pairs; `inside` (bool [N - 1]) marks neighbours within one text."""
        code = np.fromiter(map(self.__getitem__, tokens), np.int64, len(tokens))
        pair = (code[:-1] << 32 | code[1:])[inside]
        return np.concatenate((_each(code, self.buckets.__getitem__), _each(pair, self.pairs.__getitem__)))

    def bucket(self, text: str) -> int:
        """The bucket that scikit-learn assigns to a text."""
        from sklearn.utils import murmurhash3_32

        return abs(int(murmurhash3_32(text, seed=0))) % self.count

    def __missing__(self, word: str) -> int:
        code = self[word] = len(self.words)
        self.words.append(word)
        self.buckets.append(self.bucket(word))
        return code


class _Pairs(dict[int, int]):
    """Maps the codes of a pair of words to its bucket; a new pair is hashed."""

    def __init__(self, cache: _HashCache) -> None:
        super().__init__()
        self._cache = cache

    def __missing__(self, pair: int) -> int:
        words = self._cache.words
        bucket = self[pair] = self._cache.bucket(f"{words[pair >> 32]} {words[pair & 0xFFFFFFFF]}")
        return bucket


def _counts(hit: IntVector, rows: int, columns: int) -> csr_matrix:
    """Count hits, each `row * columns + column`: sparse float64 [rows, columns], indices sorted.

    Sorting is faster than the conversion from COO.
    """
    hit.sort()
    first = np.flatnonzero(np.diff(hit, prepend=-1))
    count, cell = np.diff(first, append=len(hit)).astype(np.float64), hit[first]
    starts = np.searchsorted(cell, np.arange(rows + 1) * columns)
    return csr_matrix((count, cell % columns, starts), shape=(rows, columns))


def _each(codes: IntVector, bucket: Callable[[int], int]) -> IntVector:
    """The bucket of each code; equal codes are looked up once."""
    place, distinct = pd.factorize(codes)
    return np.fromiter(map(bucket, distinct.tolist()), np.int64, len(distinct))[place]
