"""Have the rollouts to be scored drifted from those that the model learnt from? And in what?

A query is one observation: the means of its rollouts' label-free features, and where its vector lies (cosine to the
centre of the learnt queries, place along their principal directions). A feature has drifted where the mean over the
new queries lies both far from the learnt one (`FAR` standard deviations between queries) and beyond chance (`SURE`
standard errors): the first alone cries wolf over five queries, the second alone over five thousand. Of few learnt
queries the deviations are hardly known, least of what is rare; so they are taken larger, and more errors are asked for.
Beside the means, how much a policy agrees with itself and how often it finds an answer are compared as distributions,
see `memstore_gnn.monitoring.agreement`: these do not depend on how many rollouts a query has.

Each dataset is held against itself; one that the model learnt nothing from, against everything it learnt. Nothing
here reads a label, and nothing is corrected: drift is a reason to label, not a formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatMatrix, FloatVector
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.assemble import group_features
from memstore_gnn.monitoring.agreement import WIDTH, Move, moves, observed, sample

FAR = 0.5
SURE = 6.0
CLIP = 4.0
"""Standard deviations beyond which a query counts no further."""
SPREAD = 0.05
"""Over the number of learnt queries: the least variance of a feature between queries."""
FEW = 5.0
"""Learnt queries at which twice `SURE` is asked for."""
DIRECTIONS = 8
FEWEST = 10
"""Learnt queries that a dataset needs to be held against itself."""
NAMED = 3
"""Features that the warning names."""
RELATIVE = ("-group", "@answer")
"""Endings of features whose mean over a group says nothing."""

Matrix = NDArray[np.float64]
_ARRAYS = ("count", "mean", "deviation", "centre", "directions")
_VOTES: dict[str, NDArray[Any]] = {"votes": np.zeros((0, WIDTH)), "votes_of": np.zeros(0, np.int64)}
"""What a reference has of votes at the least: those that were saved before this was kept have nothing."""


@dataclass(frozen=True)
class Shift:
    """A feature that has drifted: by how many standard deviations, and how many standard errors that is."""

    feature: str
    shift: float
    errors: float


@dataclass(frozen=True)
class DatasetDrift:
    """One dataset of the rollouts to be scored."""

    dataset: str
    queries: int
    against: str
    """The dataset it was held against; empty: everything that the model learnt from."""
    learnt: int
    """Queries it was held against."""
    shifts: tuple[Shift, ...]
    """What has drifted, the farthest first."""
    moves: tuple[Move, ...]
    """Distributions of votes and answers that have moved."""

    @property
    def drifted(self) -> bool:
        """True where anything has."""
        return bool(self.shifts or self.moves)

    def sentence(self) -> str:
        """What has drifted, and what to do."""
        named = ", ".join(f"{one.feature} {one.shift:+.1f} sd" for one in self.shifts[:NAMED])
        named += f" and {len(self.shifts) - NAMED} more" if len(self.shifts) > NAMED else ""
        said = "; ".join(part for part in (named, *(one.said() for one in self.moves)) if part)
        those = f"the {self.learnt} of it" if self.against else f"the {self.learnt} queries"
        return (
            f"the {self.queries} queries of {self.dataset!r} are not like {those} that the model learnt from "
            f"({said}), so its scores may be off; label some of them and train again"
        )


@dataclass(frozen=True)
class Drift:
    """The outcome for each dataset of the rollouts that were scored."""

    datasets: tuple[DatasetDrift, ...]

    @property
    def drifted(self) -> bool:
        """True where any dataset has."""
        return any(one.drifted for one in self.datasets)

    def sentence(self) -> str | None:
        """One warning; None where nothing has drifted. Of several datasets, the farthest is named."""
        found = sorted((one for one in self.datasets if one.drifted), key=_least_far)
        if not found:
            return None
        others = f" (as have those of {len(found) - 1} other datasets)" if len(found) > 1 else ""
        return found[0].sentence() + others

    def as_json(self) -> dict[str, Any]:
        """The part of a document that the command prints."""
        return {"drifted": self.drifted, "datasets": [asdict(one) for one in self.datasets]}


@dataclass(frozen=True)
class Reference:
    """How the queries that a model learnt from were distributed; rows are for "" (all) and each dataset.

    Attributes:
        names: [F] of the features, those of vectors last.
        datasets: [D].
        count: int64 [D], queries. mean, deviation: float64 [D, F].
        centre: float32 [V], mean vector of the queries; directions: float32 [V, P], their principal directions.
        votes: float64 [K, WIDTH], what some of the queries showed, see `memstore_gnn.monitoring.agreement`; votes_of:
        int64 [K],
            of which row above. Both empty in a model that was saved before this was kept.
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
        """What `arrays` came from."""
        kept = [arrays[name] for name in _ARRAYS]
        votes = [arrays.get(name, nothing) for name, nothing in _VOTES.items()]
        return cls(names, datasets, *kept, *votes)

    def drift(self, target: Snapshot) -> Drift:
        """Hold a snapshot's queries against what was learnt; from nothing, nothing has drifted."""
        if not target.queries.num_rows or not self.datasets:
            return Drift(())
        values, votes, of_query = self.observe(target), observed(target), _datasets(target)
        rows = {name: of_query == name for name in sorted(set(of_query))}
        return Drift(tuple(self.compare(name, values[own], votes[own]) for name, own in rows.items()))

    def observe(self, snapshot: Snapshot) -> Matrix:
        """What is compared, float64 [Q, F]: one row a query."""
        values = _observe(snapshot, self.centre, self.directions)
        return values.select(self.names).values.astype(np.float64)

    def compare(self, dataset: str, values: Matrix, votes: Matrix) -> DatasetDrift:
        """Hold observed queries against the dataset's, or against all that was learnt.

        Args:
            values: float64 [N, F], N > 0, of `observe`.
            votes: float64 [N, WIDTH], of `memstore_gnn.monitoring.agreement.observed`.
        """
        row = self.row(dataset)
        standard = np.clip((values - self.mean[row]) / self.deviation[row], -CLIP, CLIP)
        shift = standard.mean(axis=0)
        errors = shift / np.sqrt(1.0 / len(values) + 1.0 / self.count[row])
        sure = SURE * (1.0 + FEW / self.count[row])
        drifted = np.flatnonzero((np.abs(shift) >= FAR) & (np.abs(errors) >= sure))
        order = drifted[np.argsort(-np.abs(errors[drifted]), kind="stable")]
        shifts = tuple(Shift(self.names[f], float(shift[f]), float(errors[f])) for f in order)
        moved = moves(self.votes[self.votes_of == row], sample(votes))
        return DatasetDrift(dataset, len(values), self.datasets[row], int(self.count[row]), shifts, moved)

    def row(self, dataset: str) -> int:
        """Where that stands which a dataset is held against: its own row, or that of all."""
        return self.datasets.index(dataset if dataset in self.datasets else "")


def reference_of(snapshot: Snapshot, learnt: BoolVector) -> Reference:
    """The reference of the queries (bool [Q]) that a model learnt from."""
    known = learnt & snapshot.query_has_x
    x = snapshot.query_x[known].astype(np.float64)
    width = snapshot.query_x.shape[1]
    centre = x.mean(axis=0) if len(x) else np.zeros(width)
    _, vectors = np.linalg.eigh((x - centre).T @ (x - centre)) if len(x) else (None, np.zeros((width, 0)))
    directions = np.ascontiguousarray(vectors[:, ::-1][:, :DIRECTIONS], np.float32)
    values, shown = _observe(snapshot, centre.astype(np.float32), directions), observed(snapshot)
    of_query = _datasets(snapshot)
    counts = {name: int((learnt & (of_query == name)).sum()) for name in sorted(set(of_query[learnt]))}
    datasets = ("", *(name for name, count in counts.items() if count >= FEWEST and name)) if counts else ()
    rows = [learnt & ((of_query == name) | (name == "")) for name in datasets]
    parts = [values.values[own].astype(np.float64) for own in rows]
    nothing = [np.zeros((0, len(values.names)))]
    votes = [sample(shown[own]) for own in rows]
    return Reference(
        names=values.names,
        datasets=datasets,
        count=np.array([len(part) for part in parts], np.int64),
        mean=np.concatenate(nothing + [part.mean(axis=0, keepdims=True) for part in parts]),
        deviation=np.concatenate(
            nothing + [np.sqrt(part.var(axis=0, keepdims=True) + SPREAD / len(part)) for part in parts]
        ),
        centre=centre.astype(np.float32),
        directions=directions,
        votes=np.concatenate([_VOTES["votes"], *votes]),
        votes_of=np.repeat(np.arange(len(votes)), [len(part) for part in votes]).astype(np.int64),
    )


def _least_far(drift: DatasetDrift) -> float:
    """Sorts the farthest first; where no mean has shifted, a distribution has moved, which is less to say."""
    return -abs(drift.shifts[0].shift) if drift.shifts else 0.0


def _observe(snapshot: Snapshot, centre: NDArray[np.float32], directions: FloatMatrix) -> FeatureTable:
    """One row a query: means of its rollouts' features, and where its vector lies."""
    read = group_features(snapshot)
    kept = read.table.select([name for name in read.table.names if not name.endswith(RELATIVE)])
    query = read.groups.query
    values = np.zeros((snapshot.queries.num_rows, len(kept.names)), np.float32)
    values[np.unique(read.groups.query_of)] = query.sums(kept.values.astype(np.float64)) / query.count[:, None]
    return FeatureTable(kept.names, values).concat(_places(snapshot, centre, directions))


def _places(snapshot: Snapshot, centre: NDArray[np.float32], directions: FloatMatrix) -> FeatureTable:
    """Where each query's vector lies; that of a query without one lies in the centre."""
    x = np.where(snapshot.query_has_x[:, None], snapshot.query_x, centre).astype(np.float64)
    along = (x - centre) @ directions
    length: FloatVector = np.linalg.norm(x, axis=1) * np.linalg.norm(centre)
    cosine = (x @ centre) / np.where(length > 0, length, 1.0)
    columns = {"query vectors, cosine to the centre": cosine}
    columns |= {f"query vectors, direction {i + 1}": along[:, i] for i in range(directions.shape[1])}
    return FeatureTable.from_columns(columns, len(x))


def _datasets(snapshot: Snapshot) -> NDArray[np.object_]:
    return np.array(snapshot.queries["dataset"].fill_null("").to_pylist(), dtype=object)
