"""Words, marks and their pairs, hashed into buckets: what scikit-learn's `HashingVectorizer` counts, in half the time.

A group that is scored repeats the words and pairs that others wrote before it, so each is hashed once and looked up
ever after. The buckets are scikit-learn's (MurmurHash3 of the word, or of both with a space between, modulo the
number of buckets), and so is every count.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from sklearn.utils import murmurhash3_32

from memstore.types import IntVector

_TOKEN = re.compile(r"[A-Za-z]+|[^\sA-Za-z0-9]|\n|\d")
MOST = 4_000_000
"""Pairs that are kept; past it the lookup begins anew, so that a long-lived service does not grow."""


class Words:
    """A lookup of words and pairs, of use to many threads; `buckets` is how many there are to fall into."""

    def __init__(self, buckets: int) -> None:
        self.buckets = buckets
        self._lock = threading.Lock()
        self._clear()

    def count(self, texts: Sequence[str]) -> csr_matrix:
        """Counts of words and pairs of neighbours, float64 [T, buckets], each row's buckets in order."""
        tokens = [_TOKEN.findall(text) for text in texts]
        length = np.fromiter(map(len, tokens), np.int64, len(tokens))
        owner = np.repeat(np.arange(len(tokens)), length)
        inside = owner[1:] == owner[:-1]
        with self._lock:
            if len(self._pair_codes) > MOST:
                self._clear()
            code = np.fromiter(map(self._known.__getitem__, chain.from_iterable(tokens)), np.int64, len(owner))
            pair = (code[:-1] << 32 | code[1:])[inside]
            bucket = np.concatenate((np.asarray(self._buckets, np.int64)[code], self._pair_buckets(pair)))
        row = np.concatenate((owner, owner[1:][inside]))
        counts = csr_matrix((np.ones(len(row)), (row, bucket)), shape=(len(tokens), self.buckets))
        counts.sort_indices()
        return counts

    def _pair_buckets(self, pair: IntVector) -> IntVector:
        place, distinct = pd.factorize(pair)
        at = self._pair_codes.get_indexer(distinct)
        new = distinct[at < 0]
        if len(new):
            words = self._words
            made = [self._bucket(f"{words[code >> 32]} {words[code & 0xFFFFFFFF]}") for code in new.tolist()]
            at[at < 0] = np.arange(len(new)) + len(self._pair_codes)
            self._pair_codes = self._pair_codes.append(pd.Index(new))
            self._pairs = np.concatenate((self._pairs, np.array(made, np.int64)))
        return np.asarray(self._pairs[at][place], np.int64)

    def _bucket(self, text: str) -> int:
        return abs(int(murmurhash3_32(text, seed=0))) % self.buckets

    def _clear(self) -> None:
        self._known = _Codes(self)
        self._words: list[str] = []
        self._buckets: list[int] = []
        self._pair_codes: Any = pd.Index(np.zeros(0, np.int64))
        self._pairs: IntVector = np.zeros(0, np.int64)

    def _add(self, word: str) -> int:
        self._words.append(word)
        self._buckets.append(self._bucket(word))
        return len(self._words) - 1


class _Codes(dict[str, int]):
    """The code of a word; an unknown one gets the next."""

    def __init__(self, words: Words) -> None:
        super().__init__()
        self._words = words

    def __missing__(self, word: str) -> int:
        code = self[word] = self._words._add(word)
        return code
