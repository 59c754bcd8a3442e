"""The inputs of a regression on label-free features: consensus as an offset, the rest standardised and averaged.

Rollouts that share an answer (in code: that do the same) are right or wrong together, so every column is averaged
over them. A difference between two of them would be noise, and policy optimisation turns noise into gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector
from memstore_gnn.data.groups import Groups
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import LabelFree

CLIP = 4.0
"""Standard deviations beyond which a feature counts no further."""
LEAST_DEVIATION = 1e-3
"""What a feature that is the same everywhere is divided by."""
SKILLED = 0.75
"""Weight of the skilled votes' log odds in the offset; the rest is that of the plain votes."""
FAR = ("cosine", "near_", "numbers", "value_among", "doubt", "conclusion", "markup", "option", "ends", "repetition",
       "words_per", "first_person", "query_words", "equation", "any_equation", "same_tree")  # fmt: skip
"""Families of features whose worth differs from set to set: they are shrunk twice as hard."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """What standardises features.

    Attributes:
        names: [F].
        mean, deviation: float64 [F].
    """

    names: tuple[str, ...]
    mean: FloatVector
    deviation: FloatVector

    @classmethod
    def of(cls, tables: Sequence[FeatureTable]) -> Scale:
        """Pooled over memories, each with the same weight; a table without rows leaves values as they are."""
        if not any(len(table) for table in tables):
            return cls(tables[0].names, np.zeros(len(tables[0].names)), np.ones(len(tables[0].names)))
        means = [table.values.mean(axis=0, dtype=np.float64) for table in tables]
        mean = np.mean(means, axis=0)
        spread = [((table.values - mean) ** 2).mean(axis=0) for table in tables]
        return cls(tables[0].names, mean, np.maximum(np.sqrt(np.mean(spread, axis=0)), LEAST_DEVIATION))

    def standardise(self, table: FeatureTable) -> Matrix:
        """float64 [T, F]: standardised and clipped."""
        return np.asarray(np.clip((table.select(self.names).values - self.mean) / self.deviation, -CLIP, CLIP))

    def apply(self, table: FeatureTable, groups: Groups) -> Matrix:
        """float64 [T, F]: standardised, clipped, and averaged over the rollouts that agree."""
        return np.asarray(groups.answer.mean(self.standardise(table)))


def votes(free: LabelFree) -> Matrix:
    """float64 [T, 2]: log odds of being right by the plain votes, and by the skilled ones."""
    columns = [free.table.column(name).astype(np.float64) for name in ("share_logit", "skilled_logit")]
    return np.column_stack([free.groups.answer.mean(column) for column in columns])


def offset(free: LabelFree) -> FloatVector:
    """float64 [T]: log odds of being right that the votes give by themselves; the prediction without any label."""
    return np.asarray(votes(free) @ np.array([1.0 - SKILLED, SKILLED]))


def penalties(names: Sequence[str]) -> FloatVector:
    """float64 [F]: how hard each feature is shrunk, relative to the others."""
    return np.array([2.0 if name.startswith(FAR) else 1.0 for name in names])


def query_weights(groups: Groups) -> FloatVector:
    """float64 [T]: one over the size of the group; rollouts of one query are no independent examples."""
    return 1.0 / groups.query.size
