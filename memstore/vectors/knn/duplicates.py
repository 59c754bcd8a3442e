"""Nodes with equal vectors, which would otherwise make exact linking quadratic in their number.

Thousands of short texts may be equal ("4", a refusal); each scores the same against everything, and all tie. Two
facts keep them cheap without changing a result:

- Two nodes of one group with one vector have the same list, so one is searched for and the others copy its list.
- Of a class of equal vectors a list takes its first k by position outside the node's own group. Keeping at most the
  first k of each group, and of those the first 2 k, is enough: at most k of them are in any one group, so k are left.

Classes are found by a hash and confirmed byte by byte. A collision could only split a class, which costs time.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore.vectors.knn.neighbours import rank_in_run

_ROWS_AT_ONCE = 4096


class Duplicates(NamedTuple):
    """Which node copies which list, and which nodes can be in a list."""

    first: IntVector
    """int64 [N]: the first position with the same vector and group; the node copies that list."""
    offers: BoolVector
    """bool [N]: whether the node can be in a list."""


def find_duplicates(vectors: FloatMatrix, group: IntVector, k: int) -> Duplicates:
    """Find equal vectors (float32 [N, D]) for lists of k; the module docstring has the rules."""
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
    return Duplicates(first, offers)


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
