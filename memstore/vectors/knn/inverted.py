"""Candidates for what is too large to compare in full: a faiss inverted file with exact rescoring.

The vectors offered are divided among about 4 sqrt(n) cells, and a node is compared with those of its nearest cells
only. What it finds has exact scores and the right order; what it misses is what no searched cell holds.
"""

from __future__ import annotations

import faiss
import numpy as np
import torch

from memstore.types import FloatMatrix, IntVector
from memstore.vectors.knn.score import pair_scores
from memstore.vectors.knn.task import LinkTask
from memstore.vectors.knn.threads import one_core_threads

_CELLS_SEARCHED = 16
_TRAINING_ROWS_A_CELL = 64
_ROWS_AT_ONCE = 4096
_SIBLINGS_AT_MOST = 64


def search_cells(task: LinkTask) -> None:
    """Complete the lists of `task` as far as the cells show."""
    new, old = (np.flatnonzero(task.searching & side) for side in (task.is_new, ~task.is_new))
    _search(task, new, np.flatnonzero(task.offers))
    if len(old):
        _search(task, old, np.flatnonzero(task.offers & task.is_new))
    task.done(1.0)


def _search(task: LinkTask, nodes: IntVector, others: IntVector) -> None:
    """Offer each of `nodes` its nearest among `others`."""
    index = _build(task.vectors[others])
    siblings = int(np.bincount(task.group[others]).max())
    wanted = min(task.settings.k + min(siblings, _SIBLINGS_AT_MOST), len(others))
    vectors = torch.from_numpy(task.vectors)
    for start in range(0, len(nodes), _ROWS_AT_ONCE):
        part = nodes[start : start + _ROWS_AT_ONCE]
        found = index.search(task.vectors[part], wanted)[1]
        row, column = np.nonzero(found >= 0)
        node, other = part[row], others[found[row, column]]
        apart = task.group[node] != task.group[other]
        node, other = node[apart], other[apart]
        with one_core_threads() as threads:
            score = pair_scores(vectors, torch.from_numpy(node), torch.from_numpy(other), threads).numpy()
        valid = score >= np.float32(task.settings.floor)
        task.lists.offer(node[valid], other[valid], score[valid])


def _build(vectors: FloatMatrix) -> faiss.IndexIVFFlat:
    dim = vectors.shape[1]
    cells = max(1, min(int(4 * np.sqrt(len(vectors))), len(vectors) // _TRAINING_ROWS_A_CELL))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = _TRAINING_ROWS_A_CELL
    index.cp.min_points_per_centroid = 1
    index.train(vectors)
    index.add(vectors)
    index.nprobe = _CELLS_SEARCHED
    return index
