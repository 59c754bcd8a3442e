"""Links by a store that searches: its index names candidates, and exact scores decide what they are worth.

The index is asked for each node's k nearest, and for as many more as the node has siblings, which are never linked.
What it misses is missed; what is stored has its exact score and the right order. How wide the index searches is
decided before, on a sample: wider until it finds nearly all that a comparison with everything finds.

Each node that is found is offered the finder in return. So old nodes gain new neighbours although only the new ones
are searched for: they are asked for more hits than they need, and for twice as many again as long as somebody in the
farther half still wants them. An old node that lies beyond does not gain the new one; linking all anew would find it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.neighbours import Neighbours
from memstore.vectors.knn.score import pair_scores
from memstore.vectors.knn.settings import LinkSettings
from memstore.vectors.knn.task import LinkTask
from memstore.vectors.knn.threads import one_core_threads

WIDTHS = (128, 512, 2048)
GOOD_RECALL = 0.99
REACH, FARTHEST = 100, 1_600
"""Hits that a new node is asked for, at first and at most, where there are old ones that may want it."""
_SAMPLE = 200
_ROWS_AT_ONCE = 2_000
_MARGIN = 2
_MOST_HITS = 16_384

Nearest = Callable[[FloatMatrix, int, int], IntVector]
"""(vectors [N, D], hits, width) -> int64 [N, hits]: positions of the nearest nodes, -1 where there are fewer."""


def search_store(task: LinkTask, nearest: Nearest) -> int:
    """Complete the lists of `task` by the store's index; returns the width that it was asked for."""
    nodes = np.flatnonzero(task.searching & task.is_new)
    width = _settle_width(task, nodes, nearest)
    reach = 0 if task.is_new.all() else REACH
    for done, part, hits in _portions(task, nodes, reach):
        reaching = part
        while len(reaching):
            wanted = _search(task, reaching, nearest(task.vectors[reaching], hits, width))
            hits *= 2
            reaching = reaching[wanted] if reach and hits <= FARTHEST else reaching[:0]
        task.done(done)
    return width


def measured_recall(vectors: FloatMatrix, group: IntVector | None, lists: Neighbours, settings: LinkSettings) -> float:
    """Share of the true neighbours that the lists of a sample hold; 1.0 where there are none.

    A neighbour counts by its score: which of several equally near ones a list holds does not matter.
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


def _settle_width(task: LinkTask, nodes: IntVector, nearest: Nearest) -> int:
    """The least width at which a sample of these nodes finds what is there; the greatest if none does."""
    sample = np.sort(np.random.default_rng(0).choice(nodes, min(_SAMPLE, len(nodes)), replace=False))
    truth = task.vectors[sample] @ task.vectors.T
    for row, node in enumerate(sample):
        truth[row, task.group == task.group[node]] = -np.inf
    k = min(task.settings.k, truth.shape[1])
    best = -np.partition(-truth, k - 1, axis=1)[:, :k]
    for width in WIDTHS:
        found = np.full_like(best, -np.inf)
        for _, part, hits in _portions(task, sample, 0):
            others = nearest(task.vectors[part], hits, width)
            rows = np.searchsorted(sample, part)
            scores = np.where(others >= 0, truth[rows[:, None], others], -np.inf)
            found[rows] = -np.sort(-scores, axis=1)[:, :k]
        there = np.isfinite(best)
        if not there.any() or (found >= best - 1e-5)[there].mean() >= GOOD_RECALL:
            return width
    return WIDTHS[-1]


def _portions(task: LinkTask, nodes: IntVector, reach: int) -> Iterator[tuple[float, IntVector, int]]:
    """The share that is done then, nodes that want about equally many hits, and how many."""
    if not len(nodes):
        return
    wanted = task.settings.k + _MARGIN + np.bincount(task.group)[task.group[nodes]]
    wanted = np.minimum(np.maximum(wanted, reach), _MOST_HITS)
    order = np.argsort(wanted, kind="stable")
    for start in range(0, len(order), _ROWS_AT_ONCE):
        part = order[start : start + _ROWS_AT_ONCE]
        yield (start + len(part)) / len(order), nodes[part], int(wanted[part].max())


def _search(task: LinkTask, nodes: IntVector, found: IntVector) -> BoolVector:
    """Offer each of `nodes` what was found for it, and the other way round.

    Returns:
        bool [len(nodes)]: whether somebody in the farther half of what was found wanted the node.
    """
    row, column = np.nonzero(found >= 0)
    other = found[row, column]
    apart = task.group[nodes[row]] != task.group[other]
    row, column, other = row[apart], column[apart], other[apart]
    with one_core_threads() as threads:
        left, right = torch.from_numpy(nodes[row]), torch.from_numpy(other)
        score = pair_scores(torch.from_numpy(task.vectors), left, right, threads).numpy()
    valid = score >= np.float32(task.settings.floor)
    row, column, other, score = row[valid], column[valid], task.first[other[valid]], score[valid]
    gain = score - task.lists.score[other, -1]
    wanted = np.zeros(len(nodes), dtype=np.bool_)
    wanted[row[(gain > 0) & ~task.is_new[other] & (column >= found.shape[1] // 2)]] = True
    # A twin's list is that of its first; whom a node is offered must be the one that was found.
    task.lists.offer(nodes[row], found[row, column], score)
    row, other, score = row[gain >= 0], other[gain >= 0], score[gain >= 0]
    task.lists.offer(other, nodes[row], score)
    return wanted
