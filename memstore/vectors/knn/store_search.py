"""Linking by the index of a vector store: the index finds candidates, exact scores rank them.

The index is asked for the k nearest of each node and as many more as its group has members, which are never linked.
Lists may miss neighbours that the index misses; what they hold has exact scores in the right order. The search width
is chosen on a sample: the smallest that finds nearly all neighbours of a comparison with everything.

Every node found is also offered the node that found it, so old nodes gain new neighbours although only new nodes are
searched for. New nodes therefore ask for more hits than they need, and double them as long as an old node in the
farther half takes the new one. An old node beyond that does not gain the new one; relinking everything would add it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.neighbours import Neighbours
from memstore.vectors.knn.score import pair_scores
from memstore.vectors.knn.settings import LinkSettings
from memstore.vectors.knn.task import LinkTask

WIDTHS = (128, 512, 2048)
"""Search widths to try, from fast to exact."""
GOOD_RECALL = 0.99
"""Share of a sample's true neighbours that a search width must find to be used."""
REACH, FARTHEST = 100, 1_600
"""Hits per new node, at first and at most, where old nodes may gain it as a neighbour."""
_SAMPLE = 200
_ROWS_AT_ONCE = 2_000
_MARGIN = 2
_MOST_HITS = 16_384

StoreSearch = Callable[[FloatMatrix, int, int], IntVector]
"""(vectors float32 [N, D], hits, width) -> int64 [N, hits]: positions of the nearest nodes, -1 where fewer exist."""


def link_by_store(task: LinkTask, store: StoreSearch) -> int:
    """Complete the lists of `task` by the store's index; returns the search width used."""
    nodes = np.flatnonzero(task.searching & task.is_new)
    width = _choose_width(task, nodes, store)
    reach = 0 if task.is_new.all() else REACH
    for done, part, hits in _batches(task, nodes, reach):
        reaching = part
        while len(reaching):
            wanted = _search(task, reaching, store(task.vectors[reaching], hits, width))
            hits *= 2
            reaching = reaching[wanted] if reach and hits <= FARTHEST else reaching[:0]
        task.done(done)
    return width


def measured_recall(vectors: FloatMatrix, group: IntVector | None, lists: Neighbours, settings: LinkSettings) -> float:
    """Share of the true neighbours of a sample that the lists hold; 1.0 where there are none.

    Neighbours are compared by score, so the choice among equally near ones does not matter.
    """
    count = len(vectors)
    sample = np.random.default_rng(0).choice(count, min(_SAMPLE, count), replace=False)
    true = held = 0
    for node in sample:
        score = vectors @ vectors[node]
        score[node if group is None else group == group[node]] = -np.inf
        best = np.sort(score)[::-1][: settings.k]
        best = best[best >= settings.floor]
        true += len(best)
        if len(best):
            # Exact scores differ from these in the last bits.
            held += min(int((lists.score[node] >= best[-1] - 1e-5).sum()), len(best))
    return held / true if true else 1.0


def _choose_width(task: LinkTask, nodes: IntVector, store: StoreSearch) -> int:
    """The smallest width that finds the neighbours of a sample of these nodes; the largest if none does."""
    sample = np.sort(np.random.default_rng(0).choice(nodes, min(_SAMPLE, len(nodes)), replace=False))
    truth = task.vectors[sample] @ task.vectors.T
    for row, node in enumerate(sample):
        truth[row, task.group == task.group[node]] = -np.inf
    k = min(task.settings.k, truth.shape[1])
    best = -np.partition(-truth, k - 1, axis=1)[:, :k]
    for width in WIDTHS:
        found = np.full_like(best, -np.inf)
        for _, part, hits in _batches(task, sample, 0):
            others = store(task.vectors[part], hits, width)
            rows = np.searchsorted(sample, part)
            scores = np.where(others >= 0, truth[rows[:, None], others], -np.inf)
            found[rows] = -np.sort(-scores, axis=1)[:, :k]
        there = np.isfinite(best)
        if not there.any() or (found >= best - 1e-5)[there].mean() >= GOOD_RECALL:
            return width
    return WIDTHS[-1]


def _batches(task: LinkTask, nodes: IntVector, reach: int) -> Iterator[tuple[float, IntVector, int]]:
    """Batches of nodes that need about equally many hits: share of nodes done after it, the nodes, the hits."""
    if not len(nodes):
        return
    wanted = task.settings.k + _MARGIN + np.bincount(task.group)[task.group[nodes]]
    wanted = np.minimum(np.maximum(wanted, reach), _MOST_HITS)
    order = np.argsort(wanted, kind="stable")
    for start in range(0, len(order), _ROWS_AT_ONCE):
        part = order[start : start + _ROWS_AT_ONCE]
        yield (start + len(part)) / len(order), nodes[part], int(wanted[part].max())


def _search(task: LinkTask, nodes: IntVector, found: IntVector) -> BoolVector:
    """Offer each node its hits, and each hit the node.

    Returns:
        bool [len(nodes)]: whether an old node in the farther half of the hits gained the node.
    """
    row, column = np.nonzero(found >= 0)
    other = found[row, column]
    apart = task.group[nodes[row]] != task.group[other]
    row, column, other = row[apart], column[apart], other[apart]
    score = pair_scores(task.vectors, nodes[row], other)
    valid = score >= np.float32(task.settings.floor)
    row, column, other, score = row[valid], column[valid], task.first[other[valid]], score[valid]
    gain = score - task.lists.score[other, -1]
    wanted = np.zeros(len(nodes), dtype=np.bool_)
    wanted[row[(gain > 0) & ~task.is_new[other] & (column >= found.shape[1] // 2)]] = True
    # A duplicate shares the list of its first, but a list must hold the node that was found.
    task.lists.offer(nodes[row], found[row, column], score)
    row, other, score = row[gain >= 0], other[gain >= 0], score[gain >= 0]
    task.lists.offer(other, nodes[row], score)
    return wanted
