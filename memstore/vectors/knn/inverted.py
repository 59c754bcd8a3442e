"""Approximate neighbour lists for memories too large to compare all pairs: an inverted file with exact scores.

The vectors are divided into about 4 sqrt(n) cells around centroids of k-means (faiss), and a node is compared with
those of its nearest cells only. The lists have exact scores in the right order, but miss neighbours in the cells that
were not searched.

The search goes cell by cell: one matrix product compares a cell with all nodes that look into it. That takes a sixth of
the time of a search node by node, and no index with a copy of the vectors. Each node first looks into its own cell, so
that the lists are nearly right, and few pairs of the other cells have to be scored exactly.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from memstore.types import FloatMatrix, IntVector
from memstore.vectors.knn.blocked import FastVectors, offer_block
from memstore.vectors.knn.task import LinkTask

_CELLS_SEARCHED = 16
_TRAINING_ROWS_A_CELL = 40
_ROWS_AT_ONCE = 65_536
"""Nodes whose nearest cells are looked up at once."""
_BLOCK_SCORES = 1 << 21
"""Scores of one block: 8 MB."""
_FOLD = 8
"""Columns whose maximum is taken first; a cell has about 250."""


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
    centroids = _centroids(task.vectors, others)
    every = np.union1d(nodes, others)
    cells = _nearest_cells(task.vectors, centroids, every, min(_CELLS_SEARCHED, centroids.ntotal))
    own, near = cells[np.searchsorted(every, others), 0], cells[np.searchsorted(every, nodes)]
    members = [others[rows] for rows in _rows_by_cell(own, centroids.ntotal)]
    fast = FastVectors(task.vectors, torch.float32)
    done = 0
    for ring in (slice(0, 1), slice(1, None)):
        width = near[:, ring].shape[1]
        for cell, rows in enumerate(_rows_by_cell(near[:, ring].ravel(), centroids.ntotal)):
            _compare(task, fast, nodes[rows // max(width, 1)], members[cell])
            done += len(rows)
            task.done(done / near.size)


def _compare(task: LinkTask, fast: FastVectors, nodes: IntVector, members: IntVector) -> None:
    """Offer each of `nodes` its nearest among the members of a cell."""
    if not len(members):
        return
    members = members[np.argsort(task.group[members], kind="stable")]
    columns = torch.zeros(-(-len(members) // _FOLD) * _FOLD, fast.x.shape[1])
    columns[: len(members)] = fast.x[torch.from_numpy(members)]
    size = max(_BLOCK_SCORES // len(columns), 32)
    for start in range(0, len(nodes), size):
        offer_block(task, fast, nodes[start : start + size], members, columns, _FOLD)


def _centroids(vectors: FloatMatrix, others: IntVector) -> faiss.IndexFlatIP:
    """An index over the centroids of the rows `others` of the vectors."""
    dim = vectors.shape[1]
    cells = max(1, min(int(4 * np.sqrt(len(others))), len(others) // _TRAINING_ROWS_A_CELL))
    flat = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(flat, dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.min_points_per_centroid = 1
    drawn = np.random.default_rng(0).choice(others, min(cells * _TRAINING_ROWS_A_CELL, len(others)), replace=False)
    index.train(vectors[drawn])
    return flat


def _nearest_cells(
    vectors: FloatMatrix, centroids: faiss.IndexFlatIP, nodes: IntVector, count: int
) -> NDArray[np.int32]:
    """The nearest cells of each node, int32 [N, count], best first."""
    found = np.empty((len(nodes), count), np.int32)
    for start in range(0, len(nodes), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found[part] = centroids.search(vectors[nodes[part]], count)[1]
    return found


def _rows_by_cell(cell: NDArray[np.int32], cells: int) -> Iterator[IntVector]:
    """The rows of each cell, in its order."""
    order = np.argsort(cell, kind="stable")
    ends = np.cumsum(np.bincount(cell, minlength=cells))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield order[start:end]
