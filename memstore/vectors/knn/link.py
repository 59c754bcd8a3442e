"""Linking: neighbour lists of all nodes at once, or of new nodes added to existing lists.

`link_all` is `link_new` with every node new. Only pairs with a new node are compared, so a small addition costs
new x all. Without a store both give the same lists bit for bit, up to `LinkSettings.exact_up_to` rows.
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
    from memstore.vectors.knn.store_search import StoreSearch

Progress = Callable[[int], None]


def link_all(
    vectors: FloatMatrix,
    group: IntVector | None,
    settings: LinkSettings,
    *,
    store: StoreSearch | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Neighbours:
    """The neighbour lists of all nodes.

    Args:
        vectors: float32 [N, D] in the order of ids; of unit length if scores are to be cosines.
        group: int64 [N]; nodes of one group are never linked to each other. None: only a node itself is left out.
        store: searches the index of a vector store; None compares the arrays.
        progress: called with the number of rows done since the last call, N in all.
        device: where an exact search multiplies: `cpu`, `cuda` or `cuda:1`. It does not change the lists.

    Raises:
        InputError: a vector is not finite, the shapes do not match, or the device does not exist or lacks memory.
    """
    nothing = Neighbours.none(len(vectors), settings.k)
    everyone = np.ones(len(vectors), dtype=np.bool_)
    return link_new(vectors, group, everyone, nothing, settings, store=store, progress=progress, device=device)[0]


def link_new(
    vectors: FloatMatrix,
    group: IntVector | None,
    is_new: BoolVector,
    old: Neighbours,
    settings: LinkSettings,
    *,
    store: StoreSearch | None = None,
    progress: Progress | None = None,
    device: str = "cpu",
) -> tuple[Neighbours, BoolVector]:
    """The neighbour lists of all nodes after new ones were added, from the lists before.

    Args:
        vectors: float32 [N, D], old and new nodes together in the order of ids.
        group: int64 [N] or None, as for `link_all`.
        is_new: bool [N].
        old: the lists of the old nodes among themselves, in the present positions; rows of new nodes are empty.
        store: as for `link_all`.
        progress: called with the number of new rows done since the last call.
        device: as for `link_all`.

    Returns:
        The lists, and bool [N]: which of them differ from `old`.

    Raises:
        InputError: as for `link_all`.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    _check(vectors, group, is_new, old, settings.k)
    count = int(is_new.sum())
    if count == 0:
        return old, np.zeros(len(vectors), dtype=np.bool_)

    task = LinkTask.plan(vectors, group, is_new, old, settings, _in_rows(progress, count), device)
    # The searches import torch and faiss, which takes seconds; a command that links nothing does not wait for it.
    if store is not None:
        from memstore.vectors.knn.store_search import link_by_store

        link_by_store(task, store)
    elif count * len(vectors) <= settings.exact_up_to**2:
        from memstore.vectors.knn.blocked import link_exactly

        link_exactly(task)
    else:
        from memstore.vectors.knn.inverted import link_approximately

        link_approximately(task)
    lists = task.finished()
    return lists, lists.differs(old)


def _in_rows(progress: Progress | None, count: int) -> Callable[[float], None]:
    """A callback that takes the share of the work that is done and reports the rows since its last call."""
    reported = 0

    def done(share: float) -> None:
        nonlocal reported
        rows = int(share * count)
        if progress is not None and rows > reported:
            progress(rows - reported)
            reported = rows

    return done


def _check(vectors: FloatMatrix, group: IntVector | None, is_new: BoolVector, old: Neighbours, k: int) -> None:
    rows = len(vectors)
    groups = rows if group is None else len(group)
    if (groups, len(is_new), old.index.shape, old.score.shape) != (rows, rows, (rows, k), (rows, k)):
        raise InputError(
            f"linking {rows} vectors with k = {k} needs {rows} groups, {rows} new-node flags and lists [{rows}, {k}], "
            f"got {groups}, {len(is_new)} and {old.index.shape}; pass arrays of matching shapes"
        )
    finite = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))
    if not finite.all():
        position = int(np.argmin(finite))
        raise InputError(f"the vector at position {position} has no finite length; embed its text again")
