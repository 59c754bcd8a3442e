"""The exact search: every pair is looked at in a fast tile, and a proof decides which get their exact score.

Each node that searches carries `lower`, a lower bound on the score of its k-th neighbour: the floor, the k-th score
of the list it already has, or the k-th best fast score seen so far less what that may be off. A pair can only belong
in the list if its fast score is not below `lower - slack`. Such pairs wait, are filtered again by the bound as it
has risen since, and get their exact score. What is left out is proved not to belong, so the lists are exact; how
tight the bounds are decides the time alone.

A node for which the bound holds back too little (many neighbours closer together than bf16 can tell) is given up
here and reported as crowded: the caller sweeps again for those nodes at float32, where nobody is given up.

Tiles are never kept: memory is a few tiles, the waiting pairs and k fast scores a node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from memstore.types import BoolVector
from memstore.vectors.knn.coarse import coarsen
from memstore.vectors.knn.score import pair_scores
from memstore.vectors.knn.task import LinkTask
from memstore.vectors.knn.threads import Threads
from memstore.vectors.knn.tiles import FOLD, Pairs, Tiles, cut

_WAITING = 1 << 22
"""Pairs that may wait; about 50 MB."""


class Sweep:
    """One pass over pairs of nodes. Each pair may be visited once at most, or the bounds do not hold."""

    def __init__(
        self, task: LinkTask, searching: BoolVector, dtype: torch.dtype, patience: int | None, threads: Threads
    ) -> None:
        """
        Args:
            searching: bool [N]; the others may be offered but look for nothing.
            dtype: of the tiles.
            patience: exact scores a node may ask for before it counts as crowded; None for no limit.
        """
        self._vectors = torch.from_numpy(task.vectors)
        self._coarse = coarsen(self._vectors, dtype, threads)
        self._group = torch.from_numpy(task.group)
        self._lists = task.lists
        self._floor = np.float32(task.settings.floor)
        self._patience = patience
        self._threads = threads
        self._best = torch.full((len(task.vectors), task.settings.k), -torch.inf, dtype=torch.float32)
        self._lower = torch.from_numpy(np.where(searching, np.maximum(task.lists.score[:, -1], self._floor), np.inf))
        self._lower = self._lower.float()
        self._threshold = (self._lower - self._coarse.slack).to(dtype)
        self._asked = torch.zeros(len(task.vectors), dtype=torch.int64)
        self._waiting: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def run(self, blocks: Sequence[Pairs], done: Callable[[float], None]) -> BoolVector:
        """Visit all pairs of `blocks`; returns the crowded nodes, bool [N].

        Args:
            done: told the share of the tiles that is done, in (0, 1].
        """
        cuts = [part for block in blocks for part in cut(block)]
        tiles = Tiles(self._coarse, self._group, self._threads).make(cuts)
        waiting = 0
        for number, tile in enumerate(tiles, start=1):
            waiting += self._notice(tile.score, tile.row_peaks, tile.pairs.rows, tile.pairs.columns)
            if tile.column_peaks is not None:
                waiting += self._notice(tile.score.T, tile.column_peaks, tile.pairs.columns, tile.pairs.rows)
            if waiting > _WAITING or number == len(cuts):
                self._settle()
                waiting = 0
            done(number / len(cuts))
        return self._crowded().numpy()

    def _crowded(self) -> torch.Tensor:
        return self._asked > (torch.inf if self._patience is None else self._patience)

    def _notice(self, score: torch.Tensor, peaks: torch.Tensor, nodes: torch.Tensor, others: torch.Tensor) -> int:
        """Let the pairs wait that may belong in a list of `nodes`, the rows of `score`; returns their number."""
        peaks = peaks[: len(nodes)]
        live = torch.nonzero((peaks >= self._threshold[nodes, None]).any(1)).squeeze(1)
        if len(live) == 0:
            return 0
        peaks, nodes = peaks[live], nodes[live]
        self._raise_bounds(nodes, peaks)
        row, peak = torch.nonzero(peaks >= self._threshold[nodes, None], as_tuple=True)
        fast = torch.unflatten(score, 1, (FOLD, -1))[live[row], :, peak]
        hit, layer = torch.nonzero(fast >= self._threshold[nodes[row], None], as_tuple=True)
        other = others[peak[hit] + layer * peaks.shape[1]]
        self._waiting.append((nodes[row[hit]].int(), other.int(), fast[hit, layer]))
        return len(hit)

    def _raise_bounds(self, nodes: torch.Tensor, peaks: torch.Tensor) -> None:
        """`peaks` are fast scores of different, unseen pairs of `nodes`: the k-th best of all bounds the k-th score."""
        best = torch.cat([self._best[nodes], peaks.float()], dim=1).topk(self._best.shape[1], dim=1).values
        self._best[nodes] = best
        kth = best[:, -1].to(peaks.dtype)
        # Before the tile was rounded it was not below the middle between this value and the next one down.
        before = (kth.float() + torch.nextafter(kth, torch.full_like(kth, -torch.inf)).float()) / 2
        self._bound(nodes, torch.maximum(self._lower[nodes], before - self._coarse.slack[nodes]))

    def _bound(self, nodes: torch.Tensor, lower: torch.Tensor) -> None:
        self._lower[nodes] = lower
        self._threshold[nodes] = (lower - self._coarse.slack[nodes]).to(self._threshold.dtype)

    def _settle(self) -> None:
        """Give the waiting pairs that still may belong their exact scores, and offer them to the lists."""
        if not self._waiting:
            return
        node, other, fast = (torch.cat(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting.clear()
        node, other = node.long(), other.long()
        kept = fast >= self._threshold[node]
        node, other = node[kept], other[kept]
        self._asked += torch.bincount(node, minlength=len(self._asked))
        crowded = self._crowded()
        self._bound(torch.nonzero(crowded).squeeze(1), torch.tensor(torch.inf))
        node, other = node[~crowded[node]], other[~crowded[node]]
        score = pair_scores(self._vectors, node, other, self._threads).numpy()
        valid = score >= self._floor
        self._lists.offer(node.numpy()[valid], other.numpy()[valid], score[valid])
        nodes = torch.unique(node)
        kth = torch.from_numpy(self._lists.score[nodes.numpy(), -1])
        self._bound(nodes, torch.maximum(self._lower[nodes], kth))
