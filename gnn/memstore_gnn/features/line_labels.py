r"""Labels of the step lines that a rollout shares with rollouts of other queries.

A line (`memstore_gnn.features.step_lines`) of a rollout is looked up in the labelled rollouts of all *other* queries.
Let :math:`n` be the number that contain it, :math:`a` the number of right ones among these, and :math:`e` the number
expected to be right, the sum of their queries' mean labels. Each line has two values, both 0 for a line that no other
query has:

.. math::
    \mathrm{right} = \log \frac{a + c}{n + 2c} - \log \tfrac{1}{2}, \qquad
    \mathrm{excess} = \log \frac{a + c}{e + c} - \log \frac{n - a + c}{n - e + c}

with the pseudo-count :math:`c`. The first value also shows a step that is wrong in every rollout of some queries. The
second does not count a query's difficulty as evidence against its lines. The features of a rollout are the sum and the
minimum of each value over its lines, both also less the group's mean.

Invariant: a query's own labels never reach its rollouts. They are subtracted from the counts, and exactly, because
labels and expectations are multiples of `UNIT`, whose sums floating point represents exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
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
from memstore_gnn.features.step_lines import names_of, step_lines

PREFIX = "line_"
"""Prefix of the features' names."""
UNIT = 2.0**-20
"""Labels and expectations are rounded to multiples of this."""
BLOCK = 8192
"""Rollouts whose lines are Python objects at once."""
PSEUDO_COUNT = 0.5
"""Rollouts that are added to the right ones and to the wrong ones, c above; .25 and 1 change AUC by at most .004."""


class Lines(NamedTuple):
    """Lines of the rollouts of a snapshot.

    text: string [N]. owner: int64 [N], the rollout of each line, ascending. rollouts: T.
    """

    text: pa.Array
    owner: IntVector
    rollouts: int


def read_lines(snapshot: Snapshot, groups: Groups) -> Lines:
    """Cut the thinkings of a snapshot into lines; it must have been taken with texts."""
    names = [names_of(text) for text in snapshot.queries["text"].fill_null("").to_pylist()]
    thinkings, rollouts = snapshot.thinkings["text"].fill_null(""), snapshot.thinkings.num_rows
    texts, counts = [pa.array([], pa.string())], [np.zeros(0, np.int64)]
    for start in range(0, rollouts, BLOCK):
        rows = slice(start, start + BLOCK)
        asked = (names[query] for query in groups.query_of[rows].tolist())
        found = [step_lines(*one) for one in zip(thinkings[rows].to_pylist(), asked, strict=True)]
        texts.append(pa.array(list(chain.from_iterable(found)), pa.string()))
        counts.append(np.fromiter(map(len, found), np.int64, len(found)))
    return Lines(pa.concat_arrays(texts), np.repeat(np.arange(rollouts), np.concatenate(counts)), rollouts)


@dataclass(frozen=True)
class LabelledLines:
    """Counts of the lines of a memory's labelled rollouts.

    Attributes:
        text: string [K], the distinct lines.
        total: float64 [3, K]: labelled rollouts with the line, right ones (n and a), expected right ones (e).
        cell: int64 [P], `query * K + line` for each line of each query, ascending.
        own: float64 [3, P], the part of `total` that comes from that query.
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
        encoded = lines.text.dictionary_encode()
        owner, width = lines.owner[keep], max(len(encoded.dictionary), 1)
        code = encoded.indices.to_numpy(zero_copy_only=False)[keep].astype(np.int64)
        cell, at = np.unique(groups.query_of[owner] * width + code, return_inverse=True)
        columns = [np.rint(column / UNIT) * UNIT for column in (known.astype(np.float64), reward, expected)]
        own = np.array([np.bincount(at, column[owner], len(cell)) for column in columns], np.float64)
        total = np.array([np.bincount(cell % width, row, width) for row in own], np.float64)
        return cls(encoded.dictionary, total, cell, own)

    def counts(self, lines: Lines, query: IntVector) -> FloatVector:
        """Counts n, a and e of each line in the labelled rollouts of other queries, float64 [3, N].

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
        """Queries with labelled rollouts that have one of these lines, int64, ascending."""
        width = self.total.shape[1]
        return np.unique(self.cell[np.isin(self.cell % width, self._codes(lines))] // width)

    def _codes(self, lines: Lines) -> IntVector:
        """Position of each line in `text`, int64 [N]; -1 for a line that it does not have."""
        return np.asarray(self._index.get_indexer(lines.text.to_numpy(zero_copy_only=False)), np.int64)

    @cached_property
    def _index(self) -> pd.Index:
        """Hash table of `text`, built once for all batches."""
        return pd.Index(self.text.to_numpy(zero_copy_only=False), dtype=object)


def line_table(lines: Lines, groups: Groups, labelled: LabelledLines, query: IntVector) -> FeatureTable:
    """Features of each rollout, float32 [T, 10].

    Args:
        query: int64 [Q], the query of the labelled part that each query is, -1 for none; its labels are left out.
    """
    n, a, e = labelled.counts(lines, query[groups.query_of[lines.owner]])
    c = PSEUDO_COUNT
    known = np.bincount(lines.owner, n > 0, lines.rollouts)
    count = np.bincount(lines.owner, minlength=lines.rollouts)
    columns: dict[str, Array] = {"known": np.log1p(known), "known_share": known / np.maximum(count, 1)}
    for name, value in (
        ("right", np.log((a + c) / (n + 2 * c)) - np.log(0.5)),
        ("excess", np.log((a + c) / (e + c)) - np.log((n - a + c) / (n - e + c))),
    ):
        total = np.bincount(lines.owner, value, lines.rollouts)
        least = np.where(count > 0, np.inf, 0.0)
        np.minimum.at(least, lines.owner, value)
        for kind, column in (("sum", total), ("min", least)):
            columns |= {f"{name}_{kind}": column, f"{name}_{kind}-group": column - groups.query.mean(column)}
    return FeatureTable.from_columns(columns, lines.rollouts).prefixed(PREFIX)
