"""`FeatureTable`: named feature columns with one row per rollout, in the snapshot's order of thinkings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from memstore.errors import InputError
from memstore.types import BoolVector, FloatMatrix, IntVector


@dataclass(frozen=True)
class FeatureTable:
    """Named columns of finite values.

    Attributes:
        names: unique, [F].
        values: float32 [T, F].
    """

    names: tuple[str, ...]
    values: FloatMatrix

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.names):
            raise InputError(f"{len(self.names)} feature names for values {self.values.shape}; pass one name a column")
        if len(set(self.names)) != len(self.names):
            duplicates = sorted({name for name in self.names if self.names.count(name) > 1})
            raise InputError(f"feature names must be unique; rename {', '.join(duplicates)}")

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], rows: int) -> Self:
        """Build a table from vectors [T]; booleans become 0 and 1, values that are not finite become 0."""
        values = np.zeros((rows, len(columns)), np.float32)
        for position, column in enumerate(columns.values()):
            values[:, position] = column
        np.nan_to_num(values, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        return cls(tuple(columns), values)

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> NDArray[np.float32]:
        """One column, float32 [T]; a view."""
        return self.values[:, self.names.index(name)]

    def concat(self, *others: FeatureTable) -> FeatureTable:
        """Join the columns of tables with the same rows."""
        tables = (self, *others)
        names = tuple(name for table in tables for name in table.names)
        return FeatureTable(names, np.concatenate([table.values for table in tables], axis=1))

    def select(self, names: Iterable[str]) -> FeatureTable:
        """Select columns, in the given order.

        Raises:
            InputError: a name that the table does not have.
        """
        wanted = tuple(names)
        at = {name: i for i, name in enumerate(self.names)}
        missing = [name for name in wanted if name not in at]
        if missing:
            raise InputError(f"the feature table has no {', '.join(missing)}; it has {', '.join(self.names)}")
        return FeatureTable(wanted, self.values[:, [at[name] for name in wanted]])

    def rows(self, which: BoolVector | IntVector) -> FeatureTable:
        """Select rollouts, by mask or by position."""
        return FeatureTable(self.names, self.values[which])

    def prefixed(self, prefix: str) -> FeatureTable:
        """The same values under names that start with `prefix`."""
        return FeatureTable(tuple(prefix + name for name in self.names), self.values)
