"""Linking: all nodes at once, or new ones into lists that exist. On arrays both give the same lists, bit for bit.

`link_all` is `link_new` where every node is new. Three kinds of pairs are visited, and no other: new with new, new
with old for the new ones' lists, and old with new for the old ones', which may have to let a new neighbour in. So a
small addition costs new times all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from memstore.errors import InputError
from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.neighbours import Neighbours
from memstore.vectors.knn.settings import LinkSettings
from memstore.vectors.knn.task import LinkTask

if TYPE_CHECKING:
    from memstore.vectors.knn.served import Nearest

Progress = Callable[[int], None]


def link_all(
    vectors: FloatMatrix,
    group: IntVector | None,
    settings: LinkSettings,
    *,
    nearest: Nearest | None = None,
    progress: Progress | None = None,
) -> Neighbours:
    """The neighbour lists of all nodes.

    Args:
        vectors: float32 [N, D] in the order of ids; of unit length if scores are to be cosines.
        group: int64 [N]; nodes of one group are never linked to each other. None: only a node itself is left out.
        nearest: a store that searches; None compares the arrays, which is exact.
        progress: told how many more rows are done, time and again, N in all.

    Raises:
        InputError: A vector is not finite, or the arrays do not fit each other.
    """
    nothing = Neighbours.none(len(vectors), settings.k)
    everyone = np.ones(len(vectors), dtype=np.bool_)
    return link_new(vectors, group, everyone, nothing, settings, nearest=nearest, progress=progress)[0]


def link_new(
    vectors: FloatMatrix,
    group: IntVector | None,
    is_new: BoolVector,
    old: Neighbours,
    settings: LinkSettings,
    *,
    nearest: Nearest | None = None,
    progress: Progress | None = None,
) -> tuple[Neighbours, BoolVector]:
    """The neighbour lists of all nodes after new ones came, from those before.

    Args:
        vectors: float32 [N, D], old and new nodes together in the order of ids.
        group: int64 [N] or None, as for `link_all`.
        is_new: bool [N].
        old: the lists of the old nodes among themselves, in the positions of now; rows of new nodes are empty.
        nearest: as for `link_all`.
        progress: told how many more of the new rows are done, time and again, all of them in all.

    Returns:
        The lists, and bool [N]: which of them are not as in `old`.

    Raises:
        InputError: A vector is not finite, or the arrays do not fit each other.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    _check(vectors, group, is_new, old, settings.k)
    count = int(is_new.sum())
    if count == 0:
        return old, np.zeros(len(vectors), dtype=np.bool_)

    task = LinkTask.plan(vectors, group, is_new, old, settings, _in_rows(progress, count))
    # The searches import torch and faiss, which takes seconds: a command that links nothing need not wait for it.
    if nearest is not None:
        from memstore.vectors.knn.served import search_store

        search_store(task, nearest)
    elif count * len(vectors) <= settings.exact_up_to**2:
        from memstore.vectors.knn.exact import search_exactly

        search_exactly(task)
    else:
        from memstore.vectors.knn.inverted import search_cells

        search_cells(task)
    lists = task.finished()
    return lists, lists.differs(old)


def _in_rows(progress: Progress | None, count: int) -> Callable[[float], None]:
    """What takes the share that is done and tells `progress` the rows that this makes more."""
    told = 0

    def done(share: float) -> None:
        nonlocal told
        rows = int(share * count)
        if progress is not None and rows > told:
            progress(rows - told)
            told = rows

    return done


def _check(vectors: FloatMatrix, group: IntVector | None, is_new: BoolVector, old: Neighbours, k: int) -> None:
    rows = len(vectors)
    groups = rows if group is None else len(group)
    if (groups, len(is_new), old.index.shape, old.score.shape) != (rows, rows, (rows, k), (rows, k)):
        raise InputError(
            f"Linking {rows} vectors with k = {k} needs as many groups, marks and lists of k, "
            f"and got {groups}, {len(is_new)} and lists of {old.index.shape}; pass arrays that fit."
        )
    finite = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
    if not finite.all():
        position = int(np.argmin(finite))
        raise InputError(f"The vector at position {position} has no finite length; embed its text again.")
