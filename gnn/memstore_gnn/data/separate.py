"""Make every group of a snapshot a query of its own, so that the groups of a query are read by themselves at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from memstore.graph.protocol import EdgeTable
from memstore.snapshots.snapshot import Snapshot
from memstore.types import IntVector
from memstore_gnn.data.groups import query_of_thinkings


def separate_groups(snapshot: Snapshot, group: IntVector) -> Snapshot:
    """Repeat a query, its names and its answers for each of its groups; the rollouts and their order stay.

    Ids occur several times, so the result is for features and predictions only. Similarity edges are left out.

    Args:
        group: int64 [T], group of each rollout; a group has one query.

    Returns:
        The snapshot itself if no query has two groups.
    """
    query_of = query_of_thinkings(snapshot)
    names, first, cell = np.unique(group, return_index=True, return_inverse=True)
    owner = query_of[first]
    if len(np.unique(owner)) == len(names):
        return snapshot
    leads = snapshot.edges["leads_to"]
    answers, target = np.unique(
        cell[leads.source] * snapshot.answers.num_rows + leads.target, return_index=True, return_inverse=True
    )[1:]
    every = np.argsort(cell, kind="stable")
    edges = {
        name: EdgeTable(table.source[:0], table.target[:0], table.properties.slice(0, 0))
        for name, table in snapshot.edges.items()
    }
    edges |= {name: snapshot.edges[name] for name in ("produced", "wrote")}
    edges["generates"] = EdgeTable(cell[every], every, snapshot.edges["generates"].properties)
    edges["leads_to"] = EdgeTable(leads.source, target, leads.properties)
    edges["in"] = _names_of(snapshot, owner)
    return replace(
        snapshot,
        queries=snapshot.queries.take(pa.array(owner)),
        answers=snapshot.answers.take(pa.array(leads.target[answers])),
        edges=edges,
        query_x=snapshot.query_x[owner],
        query_has_x=snapshot.query_has_x[owner],
    )


def _names_of(snapshot: Snapshot, owner: IntVector) -> EdgeTable:
    """The IN edges of some queries (rows, int64 [G]), whose new rows are 0..G-1."""
    named = snapshot.edges["in"]
    order = np.argsort(named.source, kind="stable")
    new, place = ranges(named.source[order], owner)
    rows = order[place]
    return EdgeTable(new, named.target[rows], named.properties.take(pa.array(rows)))


def ranges(keys: IntVector, wanted: IntVector) -> tuple[IntVector, IntVector]:
    """Join keys with a sorted column: for each match, the position in `wanted` and the row of the column.

    Args:
        keys: int64 [N], ascending. wanted: int64 [W].
    """
    start, end = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, side="right")
    count = end - start
    of = np.repeat(np.arange(len(wanted)), count)
    return of, np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + start[of]
