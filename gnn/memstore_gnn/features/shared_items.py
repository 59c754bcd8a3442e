"""Compare each rollout's items, such as intermediate numbers or a syntax tree, with those of its group.

Each item is coded as an integer together with its query, so the number of rollouts that share it is a count of equal
codes. There is no loop over groups or over pairs of rollouts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import Array, Groups


class Shared(NamedTuple):
    """How far the rest of the group shares a rollout's items, float64 [T] each."""

    mean: FloatVector
    """Mean over items of the share of the other rollouts that have it; 0 without items or other rollouts."""
    least: FloatVector
    """Minimum over items of that share."""
    covered: FloatVector
    """Share of the group's common items that this rollout has; 1 without common items. An item is common if at least
    two rollouts and at least half of the group have it."""


def shared_items(groups: Groups, items: Iterable[Collection[str]]) -> Shared:
    """Compare each rollout's items with those of the other rollouts of its group.

    Args:
        items: the items of each rollout, without duplicates.
    """
    owner, code = _codes(groups, items)
    rows = len(groups.query_of)
    _, cell, count = np.unique(code, return_inverse=True, return_counts=True)
    others = np.maximum(groups.query.size - 1, 1)
    share = (count[cell] - 1) / others[owner]
    number = np.bincount(owner, minlength=rows)
    mean = np.bincount(owner, share, rows) / np.maximum(number, 1)
    least = np.full(rows, np.inf)
    np.minimum.at(least, owner, share)
    return Shared(mean, np.where(np.isfinite(least), least, 0.0), _covered(groups, owner, cell, count))


def _covered(groups: Groups, owner: IntVector, cell: IntVector, count: IntVector) -> FloatVector:
    rows = len(groups.query_of)
    query_of_item = np.zeros(len(count), np.int64)
    query_of_item[cell] = groups.query.cell[owner]
    size = groups.query.count[query_of_item]
    popular = (count >= 2) & (2 * count >= size)
    number = np.bincount(query_of_item, popular, len(groups.query.count))[groups.query.cell]
    own = np.bincount(owner, popular[cell], rows)
    return np.where(number > 0, own / np.maximum(number, 1), 1.0)


def _codes(groups: Groups, items: Iterable[Collection[str]]) -> tuple[IntVector, IntVector]:
    """The rollout of each item, and a code that is equal for equal items of one query."""
    own = list(items)
    owners = np.repeat(np.arange(len(own)), np.fromiter(map(len, own), np.int64, len(own)))
    flat = np.empty(len(owners), object)
    flat[:] = list(chain.from_iterable(own))
    code, known = pd.factorize(flat)
    return owners, groups.query.cell[owners] * max(len(known), 1) + code


def among_others(groups: Groups, items: Iterable[Iterable[str]], wanted: list[str]) -> Array:
    """Share of the other rollouts of the group whose items contain this rollout's `wanted`; 0 for ""."""
    held = [frozenset(own) for own in items]
    query = groups.query.cell.tolist()
    asked: dict[int, set[str]] = {}
    for rollout, want in enumerate(wanted):
        if want:
            asked.setdefault(query[rollout], set()).add(want)
    known = Counter(
        (query[rollout], item)
        for rollout, own in enumerate(held)
        for item in asked.get(query[rollout], ())
        if item in own
    )
    count = [known[query[i], want] - (want in held[i]) if want else 0 for i, want in enumerate(wanted)]
    return np.array(count, np.float64) / np.maximum(groups.query.size - 1, 1)
