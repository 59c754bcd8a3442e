"""Find one rollout of a memory by its id, or by its query and policy, run, step or sample.

If several rollouts match, the error lists them. If none matches, the error suggests similar names.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.snapshots.aliases import with_keys
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings

SHOWN = 5
"""Rollouts listed in an error."""
SHORTEST = 6
"""Characters that a prefix of a rollout's id must have."""


@dataclass(frozen=True)
class RolloutFilter:
    """Policy, run, step and sample that a rollout has; None matches any value."""

    policy: str | None = None
    run: str | None = None
    step: int | None = None
    sample_index: int | None = None

    def matches(self, snapshot: Snapshot) -> BoolVector:
        """Mask of the rollouts that have these values, bool [T]."""
        keep = np.ones(snapshot.thinkings.num_rows, np.bool_)
        for name, value in asdict(self).items():
            if value is not None:
                keep &= pc.fill_null(pc.equal(snapshot.thinkings[name], value), False).to_numpy()
        return keep

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in asdict(self).items() if value is not None)


ANY_ROLLOUT = RolloutFilter()


def find_rollout(snapshot: Snapshot, name: str, matching: RolloutFilter = ANY_ROLLOUT) -> int:
    """Row of a rollout in the snapshot's thinkings.

    Args:
        name: the rollout's id or a prefix of it, or its query's id or key.
        matching: selects one of several rollouts of a query.

    Raises:
        InputError: no rollout matches, or several do.
    """
    named = _matching(snapshot, name)
    if not len(named):
        raise InputError(f"the memory has no rollout or query {name!r}{_suggestion(snapshot, name)}")
    found = named[matching.matches(snapshot)[named]]
    if len(found) == 1:
        return int(found[0])
    if not len(found):
        raise InputError(f"none of the rollouts of {name!r} has {matching}; choose one of {_listed(snapshot, named)}")
    raise InputError(
        f"{len(found)} rollouts match {name!r}; give the policy, run, step or sample of one, or its id: "
        f"{_listed(snapshot, found)}"
    )


def _matching(snapshot: Snapshot, name: str) -> IntVector:
    """Rows of the rollouts that match a name, int64."""
    ids = snapshot.thinkings["id"]
    exact = np.flatnonzero(pc.equal(ids, name).to_numpy())
    if len(exact):
        return exact
    query = pc.equal(snapshot.queries["id"], name).to_numpy() | with_keys(snapshot, [name])
    rows = np.flatnonzero(query[query_of_thinkings(snapshot)])
    if len(rows) or len(name) < SHORTEST:
        return rows
    return np.flatnonzero(pc.starts_with(ids, name).to_numpy())


def _suggestion(snapshot: Snapshot, name: str) -> str:
    names = [snapshot.thinkings["id"], snapshot.edges["in"].properties["key"], snapshot.queries["id"]]
    known = sorted({str(value) for column in names for value in column.to_pylist() if value is not None})
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return "; pass an id, which `memstore cypher` prints, or a query's key"


def _listed(snapshot: Snapshot, rows: IntVector) -> str:
    columns = ["id", "policy", "run", "step", "sample_index"]
    shown = snapshot.thinkings.select(columns).take(rows[:SHOWN]).to_pylist()
    described = [
        f"{row['id']} ({RolloutFilter(row['policy'], row['run'], row['step'], row['sample_index'])})" for row in shown
    ]
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    return ", ".join(described) + more
