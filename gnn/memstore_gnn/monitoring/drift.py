"""Detect drift between the queries that a model was trained on and the queries to score.

A query is one observation: the means of its rollouts' label-free features, the cosine of its vector to the centre of
the training queries, and its coordinates along their principal directions. A feature has drifted if the mean over
the new queries differs from the training mean by at least `min_shift` standard deviations between queries and by at
least `min_errors` standard errors. The first condition alone raises false alarms for five queries, the second alone for
five thousand. With few training queries the deviations are uncertain, so they are enlarged (`extra_variance`) and more
standard errors are required (`small_reference`; the names are those of `DriftSettings`). In addition,
`memstore_gnn.monitoring.agreement` compares agreement and answers as distributions, which do not depend on the number
of rollouts per query. Features that follow from this number (`OF_SIZE`) are no drift: a model that was trained on
larger groups scores smaller ones as well as one that was trained on those (`research/reward_quality_log.md`).

Each dataset is compared with itself, or with all training queries if the model was not trained on it. No label is
read and no score is corrected: drift is a reason to label and to train again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatMatrix, FloatVector
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import group_features
from memstore_gnn.monitoring.agreement import WIDTH, Move, moves, observed, sample
from memstore_gnn.monitoring.settings import DriftSettings

DRIFT = DriftSettings()
FEATURES_IN_WARNING = 3
"""Features named in the warning."""
OF_SIZE = ("log_size", "log_votes", "distinct", "log_distinct", "majority")
"""Features that change with the number of rollouts of a query."""
GROUP_RELATIVE = ("-group", "@answer")
"""Endings of features whose mean over a group is constant."""

Matrix = NDArray[np.float64]
_ARRAYS = ("count", "mean", "deviation", "centre", "directions")
_VOTES: dict[str, NDArray[Any]] = {"votes": np.zeros((0, WIDTH)), "votes_of": np.zeros(0, np.int64)}
"""Defaults for references saved before the votes were stored."""


@dataclass(frozen=True)
class Shift:
    """A feature that has drifted, with its shift in standard deviations and in standard errors."""

    feature: str
    shift: float
    errors: float


@dataclass(frozen=True)
class DatasetDrift:
    """Drift of one dataset of the rollouts to score."""

    dataset: str
    queries: int
    against: str
    """The training dataset it was compared with; empty for all training queries."""
    learnt: int
    """Training queries it was compared with."""
    shifts: tuple[Shift, ...]
    """Drifted features, by decreasing number of standard errors."""
    moves: tuple[Move, ...]
    """Distributions of agreement and answers that have changed."""

    @property
    def drifted(self) -> bool:
        """Whether a feature or a distribution has changed."""
        return bool(self.shifts or self.moves)

    def sentence(self) -> str:
        """Warning that names the changes and what to do."""
        named = ", ".join(f"{one.feature} {one.shift:+.1f} sd" for one in self.shifts[:FEATURES_IN_WARNING])
        named += f" and {len(self.shifts) - FEATURES_IN_WARNING} more" if len(self.shifts) > FEATURES_IN_WARNING else ""
        changes = "; ".join(part for part in (named, *(one.description() for one in self.moves)) if part)
        training = (
            f"the {self.learnt} training queries of this dataset"
            if self.against
            else f"all {self.learnt} training queries"
        )
        return (
            f"the {self.queries} queries of {self.dataset!r} differ from {training} ({changes}), so their scores may "
            "be unreliable; label some of them and train again"
        )


@dataclass(frozen=True)
class Drift:
    """Drift of each dataset of the scored rollouts."""

    datasets: tuple[DatasetDrift, ...]

    @property
    def drifted(self) -> bool:
        """Whether any dataset has drifted."""
        return any(one.drifted for one in self.datasets)

    def sentence(self) -> str | None:
        """One warning for all datasets, which names the one with the largest shift; None without drift."""
        found = sorted((one for one in self.datasets if one.drifted), key=_by_shift)
        if not found:
            return None
        others = f"; other datasets that have drifted too: {len(found) - 1}" if len(found) > 1 else ""
        return found[0].sentence() + others

    def as_json(self) -> dict[str, Any]:
        """The part of a document that the command prints."""
        return {"drifted": self.drifted, "datasets": [asdict(one) for one in self.datasets]}


@dataclass(frozen=True)
class Reference:
    """Distribution of the training queries; rows are for "" (all) and each dataset.

    Attributes:
        names: [F], names of the features, those of vectors last.
        datasets: [D].
        count: int64 [D], queries. mean, deviation: float64 [D, F].
        centre: float32 [V], mean vector of the queries; directions: float32 [V, P], their principal directions.
        votes: float64 [K, WIDTH], a sample of the queries, see `memstore_gnn.monitoring.agreement`.
        votes_of: int64 [K], the row of each of them. Both are empty in a model that was saved before they were stored.
    """

    names: tuple[str, ...]
    datasets: tuple[str, ...]
    count: NDArray[np.int64]
    mean: Matrix
    deviation: Matrix
    centre: NDArray[np.float32]
    directions: FloatMatrix
    votes: Matrix
    votes_of: NDArray[np.int64]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, as they are saved."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in (*_ARRAYS, *_VOTES)}

    @classmethod
    def of_arrays(
        cls, names: tuple[str, ...], datasets: tuple[str, ...], arrays: Mapping[str, NDArray[Any]]
    ) -> Reference:
        """Restore a reference from `arrays`."""
        kept = [arrays[name] for name in _ARRAYS]
        votes = [arrays.get(name, nothing) for name, nothing in _VOTES.items()]
        return cls(names, datasets, *kept, *votes)

    def drift(self, target: Snapshot) -> Drift:
        """Compare a snapshot's queries with the training queries; no drift if either is empty."""
        if not target.queries.num_rows or not self.datasets:
            return Drift(())
        values, votes, of_query = self.observe(target), observed(target), first_datasets(target)
        rows = {name: of_query == name for name in sorted(set(of_query))}
        return Drift(tuple(self.compare(name, values[mask], votes[mask]) for name, mask in rows.items()))

    def observe(self, snapshot: Snapshot) -> Matrix:
        """Features to compare, float64 [Q, F], one row per query."""
        values = _observe(snapshot, self.centre, self.directions)
        return values.select(self.names).values.astype(np.float64)

    def compare(self, dataset: str, values: Matrix, votes: Matrix) -> DatasetDrift:
        """Compare observed queries with those of the dataset, or with all training queries.

        Args:
            values: float64 [N, F], N > 0, of `observe`.
            votes: float64 [N, WIDTH], of `memstore_gnn.monitoring.agreement.observed`.
        """
        row = self.row(dataset)
        standard = np.clip((values - self.mean[row]) / self.deviation[row], -DRIFT.clip, DRIFT.clip)
        shift = standard.mean(axis=0)
        errors = shift / np.sqrt(1.0 / len(values) + 1.0 / self.count[row])
        sure = DRIFT.min_errors * (1.0 + DRIFT.small_reference / self.count[row])
        compared = ~np.isin(self.names, OF_SIZE)
        drifted = np.flatnonzero(compared & (np.abs(shift) >= DRIFT.min_shift) & (np.abs(errors) >= sure))
        order = drifted[np.argsort(-np.abs(errors[drifted]), kind="stable")]
        shifts = tuple(Shift(self.names[f], float(shift[f]), float(errors[f])) for f in order)
        moved = moves(self.votes[self.votes_of == row], sample(votes))
        return DatasetDrift(dataset, len(values), self.datasets[row], int(self.count[row]), shifts, moved)

    def row(self, dataset: str) -> int:
        """Row that a dataset is compared with: its own, or the row of all training queries."""
        return self.datasets.index(dataset if dataset in self.datasets else "")


def reference_of(snapshot: Snapshot, learnt: BoolVector) -> Reference:
    """Compute the reference of the training queries (bool [Q])."""
    known = learnt & snapshot.query_has_x
    x = snapshot.query_x[known].astype(np.float64)
    width = snapshot.query_x.shape[1]
    centre = x.mean(axis=0) if len(x) else np.zeros(width)
    _, vectors = np.linalg.eigh((x - centre).T @ (x - centre)) if len(x) else (None, np.zeros((width, 0)))
    directions = np.ascontiguousarray(vectors[:, ::-1][:, : DRIFT.principal_directions], np.float32)
    values, outcomes = _observe(snapshot, centre.astype(np.float32), directions), observed(snapshot)
    of_query = first_datasets(snapshot)
    counts = {name: int((learnt & (of_query == name)).sum()) for name in sorted(set(of_query[learnt]))}
    datasets = (
        ("", *(name for name, count in counts.items() if count >= DRIFT.min_dataset_queries and name)) if counts else ()
    )
    rows = [learnt & ((of_query == name) | (name == "")) for name in datasets]
    parts = [values.values[mask].astype(np.float64) for mask in rows]
    nothing = [np.zeros((0, len(values.names)))]
    votes = [sample(outcomes[mask]) for mask in rows]
    return Reference(
        names=values.names,
        datasets=datasets,
        count=np.array([len(part) for part in parts], np.int64),
        mean=np.concatenate(nothing + [part.mean(axis=0, keepdims=True) for part in parts]),
        deviation=np.concatenate(
            nothing + [np.sqrt(part.var(axis=0, keepdims=True) + DRIFT.extra_variance / len(part)) for part in parts]
        ),
        centre=centre.astype(np.float32),
        directions=directions,
        votes=np.concatenate([_VOTES["votes"], *votes]),
        votes_of=np.repeat(np.arange(len(votes)), [len(part) for part in votes]).astype(np.int64),
    )


def _by_shift(drift: DatasetDrift) -> float:
    """Sort key: the largest shift first, then datasets in which only a distribution has changed."""
    return -abs(drift.shifts[0].shift) if drift.shifts else 0.0


def _observe(snapshot: Snapshot, centre: NDArray[np.float32], directions: FloatMatrix) -> FeatureTable:
    """One row per query: means of its rollouts' features, and the position of its vector."""
    read = group_features(snapshot)
    kept = read.table.select([name for name in read.table.names if not name.endswith(GROUP_RELATIVE)])
    query = read.groups.query
    values = np.zeros((snapshot.queries.num_rows, len(kept.names)), np.float32)
    values[np.unique(read.groups.query_of)] = query.sums(kept.values.astype(np.float64)) / query.count[:, None]
    return FeatureTable(kept.names, values).concat(_vector_features(snapshot, centre, directions))


def _vector_features(snapshot: Snapshot, centre: NDArray[np.float32], directions: FloatMatrix) -> FeatureTable:
    """Position of each query's vector; the centre for a query without a vector."""
    x = np.where(snapshot.query_has_x[:, None], snapshot.query_x, centre).astype(np.float64)
    along = (x - centre) @ directions
    length: FloatVector = np.linalg.norm(x, axis=1) * np.linalg.norm(centre)
    cosine = (x @ centre) / np.where(length > 0, length, 1.0)
    columns = {"query vectors, cosine to the centre": cosine}
    columns |= {f"query vectors, direction {i + 1}": along[:, i] for i in range(directions.shape[1])}
    return FeatureTable.from_columns(columns, len(x))
