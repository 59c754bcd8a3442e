"""Split the labelled queries into train, select and report.

A split is by query, never by rollout. Each dataset's queries are ordered by a hash of the seed and the query id, and
the first ones, a share of each dataset, are labelled. So the queries of a 20 % budget are part of those of 30 %, a
query keeps its position when the memory grows, and all predictors see the same queries. A query in several datasets is
drawn once, in the first of them by name. Every fifth query in this order is for selection, so that train and select are
nested as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from memstore.errors import InputError
from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings

SELECT_EVERY = 5
"""Every how many labelled queries one is for selection."""


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of queries, each bool [Q]; a query without a label is in none."""

    train: BoolVector
    select: BoolVector
    report: BoolVector

    @property
    def labelled(self) -> BoolVector:
        """Queries whose labels a predictor may see, bool [Q]."""
        return self.train | self.select

    def among(self, queries: BoolVector) -> Split:
        """The split of some of the queries (bool [Q]), in their order."""
        return Split(self.train[queries], self.select[queries], self.report[queries])


def label_budget(snapshot: Snapshot, budget: float, seed: int) -> Split:
    """Assign a share of the queries with ground truth to train and select, and the rest to report.

    Args:
        budget: share of each dataset's labelled queries, 0..1; rounded, at least one query if it is over 0.
        seed: of the order of the queries.

    Raises:
        InputError: the budget is not a share, or the snapshot has no ground truth.
    """
    check_share(budget)
    known = labelled_queries(snapshot)
    if not known.any():
        raise InputError("the snapshot has no ground truth to draw a label budget from; label some queries first")
    train, select = np.zeros(len(known), bool), np.zeros(len(known), bool)
    rows = np.flatnonzero(known)
    datasets, ids = first_datasets(snapshot).tolist(), snapshot.queries["id"].to_pylist()
    for taken in draw([ids[row] for row in rows], [datasets[row] for row in rows], budget, seed):
        held_back = np.arange(len(taken)) % SELECT_EVERY == SELECT_EVERY - 1
        train[rows[taken[~held_back]]] = True
        select[rows[taken[held_back]]] = True
    return Split(train, select, known & ~train & ~select)


def draw(ids: Sequence[str], datasets: Sequence[str], share: float, seed: int) -> list[IntVector]:
    """Draw a share of the queries of each dataset, in the order of the seed; int64 positions for each dataset.

    The share is rounded, to at least one query if it is over 0.

    Raises:
        InputError: the share is not between 0 and 1.
    """
    check_share(share)
    order, dataset = _hash_order(ids, seed), np.array(datasets, dtype=object)
    members = [order[dataset[order] == name] for name in sorted(set(datasets))]
    return [rows[: _share(len(rows), share)] for rows in members]


def check_share(share: float) -> None:
    """Raise InputError if a budget is not between 0 and 1."""
    if not 0.0 <= share <= 1.0:
        raise InputError(f"the label budget is {share}; it must be a share between 0 and 1")


def labelled_queries(snapshot: Snapshot) -> BoolVector:
    """Queries with ground truth for at least one rollout, bool [Q]."""
    reward = snapshot.thinkings["reward"].combine_chunks()
    known = np.asarray(reward.is_valid().to_numpy(zero_copy_only=False), bool)
    return np.bincount(query_of_thinkings(snapshot)[known], minlength=snapshot.queries.num_rows) > 0


def _share(count: int, budget: float) -> int:
    return 0 if budget == 0 else max(1, int(np.floor(count * budget + 0.5)))


def _hash_order(ids: Sequence[str], seed: int) -> IntVector:
    """Positions of the ids by the hash of seed and id."""
    digests = [hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest() for key in ids]
    return np.array(sorted(range(len(ids)), key=digests.__getitem__), np.int64)
