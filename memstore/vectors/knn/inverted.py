"""Approximate neighbour lists for memories too large to compare all pairs: a faiss inverted file with exact scores.

The vectors are divided into about 4 sqrt(n) cells, and a node is compared with those of its nearest cells only. The
lists have exact scores in the right order, but miss neighbours in the cells that were not searched.
"""

from __future__ import annotations

import faiss
import numpy as np

from memstore.types import FloatMatrix, IntVector
from memstore.vectors.knn.blocked import adding_error
from memstore.vectors.knn.score import pair_scores
from memstore.vectors.knn.task import LinkTask

_CELLS_SEARCHED = 16
_TRAINING_ROWS_A_CELL = 40
_ROWS_AT_ONCE = 4096
_ROWS_ADDED = 65_536
_GROUP_AT_MOST = 64
"""Extra hits that are asked for at most, since members of the node's own group are dropped."""


def link_approximately(task: LinkTask) -> None:
    """Complete the lists of `task` from an inverted file."""
    new, old = (np.flatnonzero(task.searching & side) for side in (task.is_new, ~task.is_new))
    _search(task, new, np.flatnonzero(task.offers))
    if len(old):
        _search(task, old, np.flatnonzero(task.offers & task.is_new))
    task.done(1.0)


def _search(task: LinkTask, nodes: IntVector, others: IntVector) -> None:
    """Offer each of `nodes` its nearest among `others`."""
    if not len(nodes) or not len(others):
        return
    index = _build(task.vectors, others)
    group_size = int(np.bincount(task.group[others]).max())
    wanted = min(task.settings.k + min(group_size, _GROUP_AT_MOST), len(others))
    longest = np.linalg.norm(task.vectors, axis=1).max()
    slack = 2 * adding_error(task.vectors.shape[1]) * float(longest) ** 2  # two products are compared
    kept = min(task.settings.k, wanted)
    for start in range(0, len(nodes), _ROWS_AT_ONCE):
        part = nodes[start : start + _ROWS_AT_ONCE]
        fast, found = index.search(task.vectors[part], wanted)
        other = others[found]
        fast[(found < 0) | (task.group[other] == task.group[part][:, None])] = -np.inf
        best = np.partition(fast, -kept, axis=1)[:, -kept]
        row, column = np.nonzero(np.isfinite(fast) & (fast >= best[:, None] - slack))
        node, near = part[row], other[row, column]
        score = pair_scores(task.vectors, node, near)
        valid = score >= np.float32(task.settings.floor)
        task.lists.offer(node[valid], near[valid], score[valid])


def _build(vectors: FloatMatrix, others: IntVector) -> faiss.IndexIVFFlat:
    """An index over the rows `others` of the vectors, which are copied a part at a time."""
    dim = vectors.shape[1]
    cells = max(1, min(int(4 * np.sqrt(len(others))), len(others) // _TRAINING_ROWS_A_CELL))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    drawn = np.random.default_rng(0).choice(others, min(cells * _TRAINING_ROWS_A_CELL, len(others)), replace=False)
    index.train(vectors[drawn])
    for start in range(0, len(others), _ROWS_ADDED):
        index.add(vectors[others[start : start + _ROWS_ADDED]])
    index.nprobe = _CELLS_SEARCHED
    return index
