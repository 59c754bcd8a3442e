r"""Labels of the step lines that a rollout shares with rollouts of other queries.

A line (`memstore_gnn.features.step_lines`) of a rollout is looked up in the labelled rollouts of all *other* queries.
Let :math:`n` be the number that contain it, :math:`a` the number of right ones among these, and :math:`e` the number
expected to be right, the sum of their queries' mean labels. Each line has two values, both 0 for a line that no other
query has:

.. math::
    \mathrm{right} = \log \frac{a + c}{n + 2c} - \log \tfrac{1}{2}, \qquad
    \mathrm{excess} = \log \frac{a + c}{e + c} - \log \frac{n - a + c}{n - e + c}

with the pseudo-count :math:`c`. The first value also shows a step that is wrong in every rollout of some queries. The
second does not count a query's difficulty as evidence against its lines.

A rollout is wrong because of one of its lines, and not of those that right rollouts of the same query have too. Let
:math:`y` be its label, and :math:`w_l` one less the best label of a rollout of its query with line :math:`l`. The line
takes the blame :math:`(1 - y) \, w_l / \sum_k w_k`, and with the sum :math:`b` of the blame of labelled rollouts of
other queries

.. math::
    \mathrm{credit} = \log \frac{n - b + c}{b + c}.

The features of a rollout are the sum and the minimum of each value over its lines, both also less the group's mean.
`MARKS` are lines that no rollout writes: what a reader finds wrong with the arithmetic.

Invariant: a query's own labels never reach its rollouts. They are subtracted from the counts, and exactly, because
labels and expectations are multiples of `UNIT`, whose sums floating point represents exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import Array, Groups, Partition
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.equations import equations_of
from memstore_gnn.features.outline import numbers_in
from memstore_gnn.features.step_lines import names_of, step_lines

PREFIX = "line_"
"""Prefix of the features' names."""
UNIT = 2.0**-20
"""Labels and expectations are rounded to multiples of this."""
BLOCK = 8192
"""Rollouts whose lines are Python objects at once."""
PSEUDO_COUNT = 0.5
"""Rollouts that are added to the right ones and to the wrong ones, c above; .25 and 1 change AUC by at most .004."""
MARKS = ("!wrong equation", "!unsourced start", "!unused number")
"""Marks of a rollout, as lines: an equation does not hold; one starts with a number that is neither in the query nor
computed; the query has a number that the thinking does not use. No normalised line starts with an exclamation mark."""


class Lines(NamedTuple):
    """Lines of the rollouts of a snapshot.

    text: string [N]. owner: int64 [N], the rollout of each line, ascending. rollouts: T.
    """

    text: pa.Array
    owner: IntVector
    rollouts: int


def read_lines(snapshot: Snapshot, groups: Groups) -> Lines:
    """Cut the thinkings of a snapshot into lines, and add their marks; it must have been taken with texts."""
    queries = [(names_of(text), numbers_in(text)) for text in snapshot.queries["text"].fill_null("").to_pylist()]
    thinkings, rollouts = snapshot.thinkings["text"].fill_null(""), snapshot.thinkings.num_rows
    texts, counts = [pa.array([], pa.string())], [np.zeros(0, np.int64)]
    for start in range(0, rollouts, BLOCK):
        rows = slice(start, start + BLOCK)
        asked = (queries[query] for query in groups.query_of[rows].tolist())
        found = [
            [*step_lines(text, names), *marks_of(text, numbers)]
            for text, (names, numbers) in zip(thinkings[rows].to_pylist(), asked, strict=True)
        ]
        texts.append(pa.array(list(chain.from_iterable(found)), pa.string()))
        counts.append(np.fromiter(map(len, found), np.int64, len(found)))
    return Lines(pa.concat_arrays(texts), np.repeat(np.arange(rollouts), np.concatenate(counts)), rollouts)


def marks_of(thinking: str, given: frozenset[float]) -> list[str]:
    """The marks of a thinking.

    Args:
        given: numbers of the query.
    """
    equations = equations_of(thinking)
    applies = (equations.wrong, equations.starts_unsourced(given), given - numbers_in(thinking))
    return [mark for mark, found in zip(MARKS, applies, strict=True) if found]


@dataclass(frozen=True)
class LabelledLines:
    """Counts of the lines of a memory's labelled rollouts.

    Attributes:
        text: string [K], the distinct lines, first `MARKS`.
        total: float64 [4, K]: labelled rollouts with the line, right ones, expected right ones, and the blame of the
            line (n, a, e and b).
        cell: int64 [P], `query * K + line` for each line of each query, ascending.
        own: float64 [4, P], the part of `total` that comes from that query.
    """

    text: pa.Array
    total: FloatVector
    cell: IntVector
    own: FloatVector

    @classmethod
    def of(cls, lines: Lines, groups: Groups, reward: FloatVector) -> LabelledLines:
        """Count the lines of the labelled rollouts (`reward` is float64 [T], NaN without a label)."""
        known = np.isfinite(reward)
        expected = np.zeros(len(reward))
        expected[known] = Partition.of(groups.query_of[known]).mean(reward[known])
        keep = known[lines.owner]
        encoded = pa.concat_arrays([pa.array(MARKS, pa.string()), lines.text]).dictionary_encode()
        owner, width = lines.owner[keep], len(encoded.dictionary)
        code = encoded.indices.to_numpy(zero_copy_only=False)[len(MARKS) :][keep].astype(np.int64)
        cell, at = np.unique(groups.query_of[owner] * width + code, return_inverse=True)
        label = reward[owner]
        blame = _blame(label, owner, at)
        columns = [np.rint(column / UNIT) * UNIT for column in (np.ones(len(owner)), label, expected[owner], blame)]
        own = np.array([np.bincount(at, column, len(cell)) for column in columns], np.float64)
        total = np.array([np.bincount(cell % width, row, width) for row in own], np.float64)
        return cls(encoded.dictionary, total, cell, own)

    @property
    def marks(self) -> FloatVector:
        """The part of `total` that belongs to `MARKS`, float64 [4, 3]."""
        return self.total[:, : len(MARKS)]

    def with_marks(self, marks: FloatVector) -> LabelledLines:
        """The same counts, with those of other queries added to the marks: float64 [4, 3]."""
        total = self.total.copy()
        total[:, : len(MARKS)] += marks
        return replace(self, total=total)

    def counts(self, lines: Lines, query: IntVector) -> FloatVector:
        """Counts n, a, e and b of each line in the labelled rollouts of other queries, float64 [4, N].

        Args:
            query: int64 [N], the query to leave out; -1 for none.
        """
        code = self._codes(lines)
        found = code >= 0
        total = np.where(found, self.total[:, np.maximum(code, 0)], 0.0)
        if not len(self.cell):
            return total
        wanted = query * self.total.shape[1] + code
        at = np.minimum(np.searchsorted(self.cell, wanted), len(self.cell) - 1)
        own = found & (query >= 0) & (self.cell[at] == wanted)
        return total - np.where(own, self.own[:, at], 0.0)

    def queries_sharing(self, lines: Lines) -> IntVector:
        """Queries with labelled rollouts that have one of these lines, marks aside; int64, ascending."""
        width, codes = self.total.shape[1], self._codes(lines)
        shared = np.isin(self.cell % width, codes[codes >= len(MARKS)])
        return np.unique(self.cell[shared] // width)

    def _codes(self, lines: Lines) -> IntVector:
        """Position of each line in `text`, int64 [N]; -1 for a line that it does not have."""
        return np.asarray(self._index.get_indexer(lines.text.to_numpy(zero_copy_only=False)), np.int64)

    @cached_property
    def _index(self) -> pd.Index:
        """Hash table of `text`, built once for all batches."""
        return pd.Index(self.text.to_numpy(zero_copy_only=False), dtype=object)


def _blame(label: FloatVector, owner: IntVector, cell: IntVector) -> FloatVector:
    """Blame of each line of each labelled rollout, float64 [N].

    Args:
        label: float64 [N], label of the line's rollout.
        owner: int64 [N], the rollout.
        cell: int64 [N], the line within the query.
    """
    best = np.zeros(int(cell.max(initial=-1)) + 1)
    np.maximum.at(best, cell, label)
    open_to_blame = 1.0 - best[cell]
    of_rollout = np.bincount(owner, open_to_blame)[owner] if len(owner) else open_to_blame
    return np.asarray((1.0 - label) * open_to_blame / np.maximum(of_rollout, UNIT))


def line_table(lines: Lines, groups: Groups, labelled: LabelledLines, query: IntVector) -> FeatureTable:
    """Features of each rollout, float32 [T, 14].

    Args:
        query: int64 [Q], the query of the labelled part that each query is, -1 for none; its labels are left out.
    """
    n, a, e, b = labelled.counts(lines, query[groups.query_of[lines.owner]])
    c = PSEUDO_COUNT
    known = np.bincount(lines.owner, n > 0, lines.rollouts)
    count = np.bincount(lines.owner, minlength=lines.rollouts)
    columns: dict[str, Array] = {"known": np.log1p(known), "known_share": known / np.maximum(count, 1)}
    for name, value in (
        ("right", np.log((a + c) / (n + 2 * c)) - np.log(0.5)),
        ("excess", np.log((a + c) / (e + c)) - np.log((n - a + c) / (n - e + c))),
        ("credit", np.log((n - b + c) / (b + c))),
    ):
        total = np.bincount(lines.owner, value, lines.rollouts)
        least = np.where(count > 0, np.inf, 0.0)
        np.minimum.at(least, lines.owner, value)
        for kind, column in (("sum", total), ("min", least)):
            columns |= {f"{name}_{kind}": column, f"{name}_{kind}-group": column - groups.query.mean(column)}
    return FeatureTable.from_columns(columns, lines.rollouts).prefixed(PREFIX)
