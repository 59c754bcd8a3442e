"""One linking call: the arrays that the exact, the approximate and the store's search work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.duplicates import find_duplicates
from memstore.vectors.knn.neighbours import Neighbours
from memstore.vectors.knn.settings import LinkSettings


@dataclass(frozen=True)
class LinkTask:
    """Nodes are positions 0..N-1. `lists` is filled in place."""

    vectors: FloatMatrix
    """float32 [N, D]"""
    group: NDArray[np.int32]
    """int32 [N]: nodes of one group are not linked to each other. Every node has a group, if only its own."""
    is_new: BoolVector
    """bool [N]: nodes without a list so far."""
    first: IntVector
    """int64 [N]: the node whose list this node copies; itself for most."""
    offers: BoolVector
    """bool [N]: whether the node can be in a list."""
    lists: Neighbours
    settings: LinkSettings
    done: Callable[[float], None]
    """Called with the share of the work that is done, in (0, 1]."""
    device: str = "cpu"
    """Where the exact search multiplies: `cpu`, `cuda` or `cuda:1`."""

    @classmethod
    def plan(
        cls,
        vectors: FloatMatrix,
        group: IntVector | None,
        is_new: BoolVector,
        old: Neighbours,
        settings: LinkSettings,
        done: Callable[[float], None],
        device: str = "cpu",
    ) -> LinkTask:
        """The task of bringing `old` up to date; arguments as for `link_new`."""
        groups = np.arange(len(vectors)) if group is None else np.unique(group, return_inverse=True)[1]
        first, offers = find_duplicates(vectors, groups, settings.k)
        return cls(vectors, groups.astype(np.int32), is_new, first, offers, old.copy(), settings, done, device)

    @property
    def searching(self) -> BoolVector:
        """bool [N]: nodes that are searched for; the others copy a list."""
        own: BoolVector = self.first == np.arange(len(self.first))
        return own

    def by_group(self, chosen: BoolVector) -> IntVector:
        """The chosen nodes (bool [N]) in the order of their groups."""
        nodes = np.flatnonzero(chosen)
        return nodes[np.argsort(self.group[nodes], kind="stable")]

    def finished(self) -> Neighbours:
        """The lists, those of duplicates copied."""
        return Neighbours(self.lists.index[self.first], self.lists.score[self.first])
