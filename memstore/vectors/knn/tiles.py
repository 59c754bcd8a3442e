"""Tiles of fast scores, made ahead by threads, a tile each, and taken in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple

import torch

from memstore.vectors.knn.coarse import Coarse, multiply
from memstore.vectors.knn.threads import Threads

SIDE = 2048
FOLD = 32


class Pairs(NamedTuple):
    """All pairs of two sets of nodes."""

    rows: torch.Tensor
    """int64 [R]: nodes that search among the columns."""
    columns: torch.Tensor
    """int64 [C]"""
    mutual: bool
    """Whether the columns search among the rows as well."""


class Tile(NamedTuple):
    """Fast scores of `pairs`, -inf within a group and where the sides were filled up to multiples of FOLD."""

    pairs: Pairs
    score: torch.Tensor
    """bfloat16 or float32 [R', C']"""
    row_peaks: torch.Tensor
    """[R', C'/FOLD]: entry (i, w) is the highest of row i over the columns w, w + C'/FOLD, w + 2 C'/FOLD, ..."""
    column_peaks: torch.Tensor | None
    """[C', R'/FOLD]: the same for the columns, where they search."""


class _Scratch(NamedTuple):
    """Memory that tiles take turns in: the pages of fresh memory would cost a quarter of the product."""

    left: torch.Tensor
    right: torch.Tensor
    score: torch.Tensor


def cut(pairs: Pairs) -> list[Pairs]:
    """The tiles of a block; half of them where rows and columns are the same nodes and both sides search."""
    rows, columns, mutual = pairs
    if len(rows) == 0 or len(columns) == 0:
        return []
    if mutual and rows is columns:
        parts = torch.split(rows, SIDE)
        # A tile on the diagonal holds each of its pairs in both directions already.
        return [Pairs(part, parts[m], m > n) for n, part in enumerate(parts) for m in range(n, len(parts))]
    return [Pairs(part, other, mutual) for part in torch.split(rows, SIDE) for other in torch.split(columns, SIDE)]


class Tiles:
    """Makes tiles of one set of vectors. Groups are int32 [N]."""

    def __init__(self, coarse: Coarse, group: torch.Tensor, threads: Threads) -> None:
        self._coarse = coarse
        self._group = group
        self._pool = threads.pool
        self._ahead = threads.count + 1
        self._free: SimpleQueue[_Scratch] = SimpleQueue()
        dtype, dim = coarse.x.dtype, coarse.x.shape[1]
        for _ in range(self._ahead + 1):
            sizes = (SIDE, dim), (SIDE, dim), (SIDE * SIDE,)
            self._free.put(_Scratch(*(torch.empty(size, dtype=dtype) for size in sizes)))

    def make(self, cuts: Sequence[Pairs]) -> Iterator[Tile]:
        """The tiles of `cuts` in order. A tile's memory is used again once the next one is asked for."""
        coming: deque[Future[tuple[Tile, _Scratch]]] = deque()
        for pairs in cuts:
            coming.append(self._pool.submit(self._make, pairs))
            if len(coming) > self._ahead:
                yield from self._next(coming)
        while coming:
            yield from self._next(coming)

    def _next(self, coming: deque[Future[tuple[Tile, _Scratch]]]) -> Iterator[Tile]:
        tile, scratch = coming.popleft().result()
        yield tile
        self._free.put(scratch)

    def _make(self, pairs: Pairs) -> tuple[Tile, _Scratch]:
        scratch = self._free.get()
        left = self._filled_up(pairs.rows, scratch.left)
        right = self._filled_up(pairs.columns, scratch.right)
        score = scratch.score[: len(left) * len(right)].view(len(left), len(right))
        multiply(left, right, score)
        self._hide(score, pairs)
        # The maximum over 32 columns far apart costs a tenth of the product and leaves 1/32 to look through.
        row_peaks = torch.unflatten(score, 1, (FOLD, -1)).amax(1)
        column_peaks = torch.unflatten(score, 0, (FOLD, -1)).amax(0).T if pairs.mutual else None
        return Tile(pairs, score, row_peaks, column_peaks), scratch

    def _filled_up(self, nodes: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        count = len(nodes)
        torch.index_select(self._coarse.x, 0, nodes, out=out[:count])
        filled = count + -count % FOLD
        out[count:filled] = 0
        return out[:filled]

    def _hide(self, score: torch.Tensor, pairs: Pairs) -> None:
        left, right = self._group[pairs.rows], self._group[pairs.columns]
        score[len(left) :] = -torch.inf
        score[:, len(right) :] = -torch.inf
        if left.max() >= right.min() and right.max() >= left.min():
            score[: len(left), : len(right)].masked_fill_(left[:, None] == right[None, :], -torch.inf)
