"""Datasets and keys of a snapshot's queries: the names that sources give them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from memstore.records.ids import query_id_of_schema_1
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector


def first_datasets(snapshot: Snapshot) -> NDArray[np.object_]:
    """The dataset of each query, str [Q]: of several, the first by name; "" if it has none."""
    names = snapshot.datasets["name"].to_pylist()
    found: NDArray[np.object_] = np.full(snapshot.queries.num_rows, "", dtype=object)
    edges = snapshot.edges["in"]
    order = sorted(range(len(names)), key=names.__getitem__, reverse=True)
    for dataset in order:
        found[edges.source[edges.target == dataset]] = names[dataset]
    return found


def first_keys(snapshot: Snapshot) -> list[str | None]:
    """A key of each query, [Q]: of several, the first; None if no source gives one."""
    found: list[str | None] = [None] * snapshot.queries.num_rows
    edges = snapshot.edges["in"]
    for query, key in zip(edges.source.tolist(), edges.properties["key"].to_pylist(), strict=True):
        known = found[query]
        if key is not None and (known is None or key < known):
            found[query] = key
    return found


def in_dataset(snapshot: Snapshot, name: str) -> BoolVector:
    """Queries with a name in this dataset, bool [Q]."""
    edges = snapshot.edges["in"]
    return _any(snapshot, pc.equal(snapshot.datasets["name"], name).to_numpy(zero_copy_only=False)[edges.target])


def with_keys(snapshot: Snapshot, keys: Sequence[str]) -> BoolVector:
    """Queries that a source knows by one of these keys, bool [Q]."""
    mask = pc.is_in(snapshot.edges["in"].properties["key"], value_set=pa.array(list(keys), pa.string()))
    return _any(snapshot, np.asarray(mask.to_numpy(zero_copy_only=False), np.bool_))


def in_split(snapshot: Snapshot, split: str) -> BoolVector:
    """Queries that a source names in this split, bool [Q]."""
    mask = pc.equal(snapshot.edges["in"].properties["split"], split).fill_null(False)
    return _any(snapshot, np.asarray(mask.to_numpy(zero_copy_only=False), np.bool_))


def ids_of_schema_1(snapshot: Snapshot) -> list[str]:
    """The id that a query had in schema 1 under each of its names, one an IN edge; "" in a snapshot without texts."""
    edges, names = snapshot.edges["in"], snapshot.datasets["name"].to_pylist()
    if "text" not in snapshot.queries.column_names:
        return [""] * len(edges)
    texts, keys = snapshot.queries["text"].to_pylist(), edges.properties["key"].to_pylist()
    ends = zip(edges.source.tolist(), edges.target.tolist(), keys, strict=True)
    return [query_id_of_schema_1(names[dataset], key, texts[query]) for query, dataset, key in ends]


def _any(snapshot: Snapshot, chosen: NDArray[np.bool_]) -> BoolVector:
    """Queries with a chosen IN edge."""
    mask = np.zeros(snapshot.queries.num_rows, np.bool_)
    mask[snapshot.edges["in"].source[chosen.astype(np.bool_)]] = True
    return mask
