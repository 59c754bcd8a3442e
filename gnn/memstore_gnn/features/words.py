"""Words, marks and their pairs, hashed into buckets: what scikit-learn's `HashingVectorizer` counts, in half the time.

A group that is scored repeats the words and pairs that others wrote before it, so each is hashed once and looked up
ever after; whole texts that come again, as siblings that agree do and a group that is asked for twice, are looked up as
they are. The buckets are scikit-learn's (MurmurHash3 of the word, or of both with a space between, modulo the
number of buckets), and so is every count.
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
from sklearn.utils import murmurhash3_32

from memstore.types import BoolVector, FloatVector, IntVector

_TOKEN = re.compile(r"[A-Za-z]+|[^\sA-Za-z0-9]|\n|\d")
BLOCK = 8192
"""Texts whose words are in memory at once."""
FEW = 512
"""Texts at once whose counts are held; more are a memory, and not read twice."""
HELD_TEXTS = 4096
"""Texts whose counts are held, the latest: about 25 MB of long ones."""
MOST = 4_000_000
"""Pairs that are kept; past it the lookup begins anew, so that a long-lived service does not grow."""


class Words:
    """A lookup of words and pairs, of use to many threads; `buckets` is how many there are to fall into."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets
        self._lock = threading.Lock()
        self._held = _Held(buckets)
        self._texts: OrderedDict[str, _Row] = OrderedDict()

    def count(self, texts: Sequence[str]) -> csr_matrix:
        """Counts of words and pairs of neighbours, float64 [T, buckets], each row's buckets in order."""
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
                while len(self._texts) > HELD_TEXTS:
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
            if len(self._held.pairs) > MOST:
                self._held = _Held(self.buckets)
            bucket = self._held.buckets_of(list(chain.from_iterable(tokens)), inside)
        row = np.concatenate((owner, owner[1:][inside]))
        counts = csr_matrix((np.ones(len(row)), (row, bucket)), shape=(len(tokens), self.buckets))
        counts.sort_indices()
        return counts


class _Row(NamedTuple):
    """A text's buckets, ascending, and how often each was hit."""

    bucket: NDArray[np.int32]
    hits: FloatVector


class _Held(dict[str, int]):
    """What was hashed: the code of each word (an unknown one gets the next), the buckets of words and of pairs."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.count = buckets
        self.words: list[str] = []
        self.buckets: list[int] = []
        self.pairs = _Pairs(self)

    def buckets_of(self, tokens: list[str], inside: BoolVector) -> IntVector:
        """Buckets of the words, then of the pairs; `inside` (bool [N - 1]) tells which neighbours are of one text."""
        code = np.fromiter(map(self.__getitem__, tokens), np.int64, len(tokens))
        pair = (code[:-1] << 32 | code[1:])[inside]
        return np.concatenate((_each(code, self.buckets.__getitem__), _each(pair, self.pairs.__getitem__)))

    def bucket(self, text: str) -> int:
        """As scikit-learn has it."""
        return abs(int(murmurhash3_32(text, seed=0))) % self.count

    def __missing__(self, word: str) -> int:
        code = self[word] = len(self.words)
        self.words.append(word)
        self.buckets.append(self.bucket(word))
        return code


class _Pairs(dict[int, int]):
    """The bucket of a pair, by the codes of its words; an unknown one is hashed."""

    def __init__(self, held: _Held) -> None:
        super().__init__()
        self._held = held

    def __missing__(self, pair: int) -> int:
        words = self._held.words
        bucket = self[pair] = self._held.bucket(f"{words[pair >> 32]} {words[pair & 0xFFFFFFFF]}")
        return bucket


def _each(codes: IntVector, bucket: Callable[[int], int]) -> IntVector:
    """The bucket of each code, asked for once."""
    place, distinct = pd.factorize(codes)
    return np.fromiter(map(bucket, distinct.tolist()), np.int64, len(distinct))[place]
