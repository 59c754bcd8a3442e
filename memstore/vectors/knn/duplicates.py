"""Nodes with the very same vector, which would otherwise cost as much as they are many.

Thousands of short texts may be equal ("4", a refusal), and then each scores the same against everything, and all
tie. Two facts keep them cheap, and neither changes a result:
- Two nodes of one group and one vector have the same list, so one of them is searched for and the others copy.
- Of a class of equal vectors a list needs its k first by position outside the node's own group. Keep at most the
  k first of each group, and of those the 2 k first: at most k of them are in any one group, so k are left.

Classes are found by a hash and confirmed byte by byte. A collision could only split a class: slower, never wrong.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.neighbours import rank_in_run

_ROWS_AT_ONCE = 4096


class Twins(NamedTuple):
    """Who searches for whom, and who can stand in a list."""

    first: IntVector
    """int64 [N]: the first position with the same vector and group; the list of that node is the node's own."""
    offers: BoolVector
    """bool [N]: whether the node can be in anybody's list."""


def find_twins(vectors: FloatMatrix, group: IntVector, k: int) -> Twins:
    """Find equal vectors; see the module's text for what follows from them."""
    by_class, class_of = _classes(vectors)

    order = by_class[np.lexsort((by_class, group[by_class], class_of))]
    same_class = np.empty(len(order), dtype=np.int64)
    same_class[by_class] = class_of
    new_run = np.ones(len(order), dtype=np.bool_)
    new_run[1:] = (same_class[order][1:] != same_class[order][:-1]) | (group[order][1:] != group[order][:-1])
    run = np.cumsum(new_run) - 1
    first = np.empty(len(order), dtype=np.int64)
    first[order] = order[new_run][run]

    early = order[rank_in_run(run) < k]
    early = early[np.lexsort((early, same_class[early]))]
    offers = np.zeros(len(order), dtype=np.bool_)
    offers[early[rank_in_run(same_class[early]) < 2 * k]] = True
    return Twins(first, offers)


def _classes(vectors: FloatMatrix) -> tuple[IntVector, IntVector]:
    """Positions with equal rows side by side, ascending within a class, and the class of each of them."""
    bits = vectors.view(np.uint32)
    weights = np.random.default_rng(0).integers(1, 2**64, size=bits.shape[1], dtype=np.uint64)
    code = np.empty(len(bits), dtype=np.uint64)
    for start in range(0, len(bits), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        code[part] = (bits[part] * weights).sum(axis=1, dtype=np.uint64)

    order = np.argsort(code, kind="stable")
    starts = np.ones(len(order), dtype=np.bool_)
    alike = 1 + np.flatnonzero(code[order][1:] == code[order][:-1])
    for start in range(0, len(alike), _ROWS_AT_ONCE):
        here = alike[start : start + _ROWS_AT_ONCE]
        starts[here] = (bits[order[here]] != bits[order[here - 1]]).any(axis=1)
    return order, np.cumsum(starts) - 1
