"""A text's tokens as windows that the model can read, and windows as batches in which each stands for itself.

What becomes of a text longer than the window is part of the fingerprint:

    mean   as many windows as it takes, cut evenly; their vectors averaged, weighted by tokens
    head   its first window
    tail   its last window

Of a text of more than `MOST_WINDOWS` windows, `mean` reads the first and the last half of that many, whole ones; and
of one of more than `MOST_CHARACTERS` characters, any of them sees only the two ends, so that megabytes are not
tokenised for nothing.

A batch holds windows padded to one length, a multiple of 16, which depends on the window alone. Windows that fill
that length exactly are not mixed with windows that do not: transformers leaves out an attention mask that masks
nothing, and other kernels run then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memstore.embedding.protocol import LongText

MOST_WINDOWS = 16
MOST_CHARACTERS = 100_000
PAD_TO = 16


class Batch(NamedTuple):
    """Windows that run together: their positions among all windows, and the length they are padded to."""

    windows: NDArray[np.intp]
    length: int


def ends(text: str) -> str:
    """The part of a text that is tokenised: all of it, or the two ends of a very long one."""
    if len(text) <= MOST_CHARACTERS:
        return text
    half = MOST_CHARACTERS // 2
    return f"{text[:half]}\n{text[-half:]}"


def cut(tokens: Sequence[int], size: int, long_text: LongText) -> list[Sequence[int]]:
    """The windows of a text, each of at most `size` tokens; a text without tokens has one empty window."""
    if len(tokens) <= size:
        return [tokens]
    if long_text == "head":
        return [tokens[:size]]
    if long_text == "tail":
        return [tokens[-size:]]
    count = -(-len(tokens) // size)
    if count > MOST_WINDOWS:
        half = MOST_WINDOWS // 2
        end = len(tokens) - half * size
        starts = [*range(0, half * size, size), *range(end, len(tokens), size)]
        return [tokens[start : start + size] for start in starts]
    bounds = [len(tokens) * part // count for part in range(count + 1)]
    return [tokens[start:end] for start, end in pairwise(bounds)]


def batches(lengths: NDArray[np.int64], budget: int, longest: int) -> Iterator[Batch]:
    """Windows of these lengths in batches of at most `budget` tokens (one window at least), short ones first.

    Args:
        longest: no window is padded beyond this.
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
    """How many windows of this padded length make a full batch."""
    return max(1, budget // length)
