"""Split token sequences into windows that fit the model, and group windows into batches of one padded length.

The treatment of a text longer than the window is part of the fingerprint:

    mean   split evenly into as few windows as possible; average their vectors, weighted by tokens
    head   the first window
    tail   the last window

For a text of more than `MAX_WINDOWS` windows, `mean` uses the first and the last `MAX_WINDOWS / 2` full windows. Of a
text of more than `MAX_CHARACTERS` characters, only the first and the last half of that many are tokenised.

All windows of a batch are padded to the same length, a multiple of `PAD_TO` that depends on the window alone. Windows
that fill this length exactly are batched separately: transformers drops an attention mask that masks nothing and
then runs other kernels, which round differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.embedding.protocol import LongText

MAX_WINDOWS = 16
"""Maximum windows per text."""
MAX_CHARACTERS = 100_000
"""Maximum characters tokenised per text; bounds the cost of texts of several megabytes."""
PAD_TO = 16
"""Padded lengths are multiples of this many tokens."""


class Batch(NamedTuple):
    """Windows that run together: their indices among all windows, and their padded length in tokens."""

    windows: NDArray[np.intp]
    length: int


def head_and_tail(text: str) -> str:
    """Return the text, or the first and last half of `MAX_CHARACTERS` if it is longer."""
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]}\n{text[-half:]}"


def cut(tokens: Sequence[int], size: int, long_text: LongText) -> list[Sequence[int]]:
    """Split tokens into windows of at most `size` tokens; an empty sequence gives one empty window."""
    if len(tokens) <= size:
        return [tokens]
    if long_text == "head":
        return [tokens[:size]]
    if long_text == "tail":
        return [tokens[-size:]]
    count = -(-len(tokens) // size)
    if count > MAX_WINDOWS:
        half = MAX_WINDOWS // 2
        end = len(tokens) - half * size
        starts = [*range(0, half * size, size), *range(end, len(tokens), size)]
        return [tokens[start : start + size] for start in starts]
    bounds = [len(tokens) * part // count for part in range(count + 1)]
    return [tokens[start:end] for start, end in pairwise(bounds)]


def batches(lengths: NDArray[np.int64], budget: int, longest: int) -> Iterator[Batch]:
    """Group windows of these lengths into batches, short windows first.

    Args:
        budget: maximum tokens per batch, padding included; a batch has at least one window.
        longest: maximum padded length.
    """
    padded = np.minimum(-(-lengths // PAD_TO) * PAD_TO, longest)
    group = padded * 2 + (lengths == padded)
    order = np.argsort(group, kind="stable")
    for mine in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        length = int(padded[mine[0]]) if len(mine) else 1
        rows = rows_in(length, budget)
        for start in range(0, len(mine), rows):
            yield Batch(mine[start : start + rows], length)


def rows_in(length: int, budget: int) -> int:
    """Return the number of windows of this padded length in a full batch."""
    return max(1, budget // length)
