"""Inputs of the logistic regressions: votes as an offset, and standardised features averaged over equal answers.

Rollouts that share an answer (in the code domain: that behave alike) are right or wrong together, so every column is
averaged over them. A difference between two of them would be noise, and policy optimisation would follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import Groups, Partition
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import LabelFree
from memstore_gnn.models.settings import DesignSettings

DESIGN = DesignSettings()
VARIABLE = ("cosine", "near_", "numbers", "value_among", "doubt", "conclusion", "markup", "option", "ends",
            "repetition", "words_per", "first_person", "query_words", "equation", "any_equation",
            "same_tree")  # fmt: skip
"""Name prefixes of the feature families whose usefulness differs between data sets; they have a larger penalty."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    r"""Standardisation of features: :math:`(x - \mu) / \sigma`, clipped at `DesignSettings.clip`.

    Attributes:
        names: [F].
        mean, deviation: float64 [F].
    """

    names: tuple[str, ...]
    mean: FloatVector
    deviation: FloatVector

    @classmethod
    def of(cls, tables: Sequence[FeatureTable]) -> Scale:
        """Fit to several memories, each with the same weight; without any row, values are left as they are."""
        if not any(len(table) for table in tables):
            return cls(tables[0].names, np.zeros(len(tables[0].names)), np.ones(len(tables[0].names)))
        means = [table.values.mean(axis=0, dtype=np.float64) for table in tables]
        mean = np.mean(means, axis=0)
        spread = [((table.values - mean) ** 2).mean(axis=0) for table in tables]
        return cls(tables[0].names, mean, np.maximum(np.sqrt(np.mean(spread, axis=0)), DESIGN.min_deviation))

    def standardise(self, table: FeatureTable) -> Matrix:
        """Standardise and clip, float64 [T, F]."""
        scaled = (table.select(self.names).values - self.mean) / self.deviation
        return np.asarray(np.clip(scaled, -DESIGN.clip, DESIGN.clip))

    def apply(self, table: FeatureTable, groups: Groups) -> Matrix:
        """Standardise, clip and average over the rollouts that share an answer, float64 [T, F]."""
        return np.asarray(groups.answer.mean(self.standardise(table)))


def votes(free: LabelFree) -> Matrix:
    """Log odds of being right by plain votes and by reliability-weighted votes, float64 [T, 2]."""
    columns = [free.table.column(name).astype(np.float64) for name in ("share_logit", "skilled_logit")]
    return np.column_stack([free.groups.answer.mean(column) for column in columns])


def vote_coefficients() -> FloatVector:
    """Coefficients of the two columns of `votes` in the offset, float64 [2]; they sum to 1."""
    return np.array([1.0 - DESIGN.weighted_vote_share, DESIGN.weighted_vote_share])


def offset(free: LabelFree) -> FloatVector:
    """Log odds of being right by the votes alone, float64 [T]: the prediction without any label."""
    return np.asarray(votes(free) @ vote_coefficients())


def penalties(names: Sequence[str]) -> FloatVector:
    """Relative penalty of each feature, float64 [F]."""
    return np.array([DESIGN.variable_penalty if name.startswith(VARIABLE) else 1.0 for name in names])


def query_weights(query: IntVector, weight: float = 1.0) -> FloatVector:
    """Weight of each row so that every query weighs the same, because its rollouts are not independent examples.

    Args:
        query: int64 [N], query of each row.
        weight: sum of the weights of a query's rows.

    Returns:
        `weight` divided by the number of rows of the row's query, float64 [N].
    """
    return np.asarray(weight / Partition.of(query).size)
