"""What one call has to link: the arrays that both ways of searching, the exact and the inverted file, work on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.duplicates import find_twins
from memstore.vectors.knn.neighbours import Neighbours
from memstore.vectors.knn.settings import LinkSettings


@dataclass(frozen=True)
class LinkTask:
    """Nodes are positions in 0..N-1. `lists` is filled in place."""

    vectors: FloatMatrix
    group: NDArray[np.int32]
    """int32 [N]: nodes of one group do not see each other; every node has one, be it alone in it."""
    is_new: BoolVector
    first: IntVector
    """int64 [N]: the node whose list is this node's as well; itself for most."""
    offers: BoolVector
    """bool [N]: whether the node can stand in a list."""
    lists: Neighbours
    settings: LinkSettings
    done: Callable[[float], None]
    """Told the share of the work that is done, in (0, 1]."""

    @classmethod
    def plan(
        cls,
        vectors: FloatMatrix,
        group: IntVector | None,
        is_new: BoolVector,
        old: Neighbours,
        settings: LinkSettings,
        done: Callable[[float], None],
    ) -> LinkTask:
        """The task of bringing `old` up to date; arguments as for `link_new`."""
        groups = np.arange(len(vectors)) if group is None else np.unique(group, return_inverse=True)[1]
        first, offers = find_twins(vectors, groups, settings.k)
        return cls(vectors, groups.astype(np.int32), is_new, first, offers, old.copy(), settings, done)

    @property
    def searching(self) -> BoolVector:
        """bool [N]: the nodes that are searched for; the others copy a list."""
        own: BoolVector = self.first == np.arange(len(self.first))
        return own

    def by_group(self, chosen: BoolVector) -> IntVector:
        """The chosen nodes, siblings side by side, so that they meet in few tiles."""
        nodes = np.flatnonzero(chosen)
        return nodes[np.argsort(self.group[nodes], kind="stable")]

    def finished(self) -> Neighbours:
        """The lists, with those of twins copied."""
        return Neighbours(self.lists.index[self.first], self.lists.score[self.first])
