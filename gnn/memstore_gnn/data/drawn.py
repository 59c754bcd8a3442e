"""The part of a large memory that is read with its texts and vectors.

Texts, vectors and features of a million rollouts take tens of gigabytes. A reward model learns from `MOST_LABELLED`
labelled rollouts and `MOST_OTHERS` others at most, and reads the labels of as many when it scores; votes and verdicts
are those of the whole memory. This bounds time and memory. What more labels would add was not measured.

Whole queries are drawn, by a hash of their id: the draw is the same in every snapshot that holds them, whatever else
is in it.
"""

from __future__ import annotations

import hashlib

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings

MOST_LABELLED = 200_000
"""Labelled rollouts that are read, about."""
MOST_OTHERS = 100_000
"""Rollouts of unlabelled queries that are read, about."""


def draw_queries(snapshot: Snapshot, wanted: BoolVector, most: int) -> BoolVector:
    """Draw some of the wanted queries (bool [Q]) with about `most` rollouts, or all of them if they have fewer."""
    count: IntVector = np.bincount(query_of_thinkings(snapshot), minlength=len(wanted))
    if int(count[wanted].sum()) <= most:
        return wanted
    rows = np.flatnonzero(wanted)
    ids = snapshot.queries["id"].take(rows).to_pylist()
    order = np.argsort([hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids], kind="stable")
    taken = rows[order[: max(1, int(np.searchsorted(np.cumsum(count[rows[order]]), most, side="right")))]]
    drawn = np.zeros(len(wanted), np.bool_)
    drawn[taken] = True
    return drawn
