"""Decide which labels and reference answers of a memory may be seen: one function for every use.

Training, scoring, the reward service, explanations and evaluation all call it. A label is visible if its query is

- within the label budget: drawn by `memstore_gnn.data.splits.label_budget`, or any query without a budget,
- not an audit query, which is kept for measuring and never learned from or remembered. The caller names audit queries,
  and the memory marks some (`memstore.labels.audit`); both are hidden, and
- not attempted by a hidden run, such as the evaluation run that a training must not learn its test set from.

Visibility is by query and not by rollout, since a verdict on an answer holds for every rollout that gives it: hiding
the labels of one run would leave those of another run on the same query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from memstore.errors import InputError
from memstore.snapshots.aliases import in_split
from memstore.snapshots.snapshot import Snapshot
from memstore.text.identity import normalised_query
from memstore.types import AUDIT_SPLIT, BoolVector, FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import visible_rewards
from memstore_gnn.data.splits import Split, label_budget


@dataclass(frozen=True)
class Visibility:
    """What may be seen of a memory's labels."""

    budget: float | None = None
    """Share of each dataset's labelled queries, 0..1; None: all of them."""
    seed: int = 0
    """Seed of the draw."""
    audit: frozenset[str] = frozenset()
    """Audit queries besides those that the memory marks, as `text_digest`s of their texts."""
    hidden_runs: frozenset[str] = frozenset()
    """Names of runs; the queries that they attempted are hidden."""


@dataclass(frozen=True)
class Visible:
    """The visible part of a snapshot's ground truth.

    Attributes:
        queries: bool [Q], the queries whose labels and reference answers may be seen.
        reward: float64 [T], the visible labels; NaN for every other rollout.
    """

    queries: BoolVector
    reward: FloatVector

    @classmethod
    def of(cls, snapshot: Snapshot, reward: FloatVector) -> Visible:
        """These labels (float64 [T], NaN elsewhere), and the queries that have one."""
        queries = np.zeros(snapshot.queries.num_rows, np.bool_)
        queries[query_of_thinkings(snapshot)[np.isfinite(reward)]] = True
        return cls(queries, reward)


EVERYTHING = Visibility()
"""All labels are visible, except those of the audit queries that the memory marks."""


def visible(snapshot: Snapshot, visibility: Visibility = EVERYTHING) -> Visible:
    """Select what may be seen of a snapshot's ground truth.

    With a budget, a query without labelled rollouts is not visible either: the budget counts what it shows.

    Raises:
        InputError: the budget is not a share or there is no ground truth to draw it from, or there are audit queries
            and the snapshot has no texts.
    """
    if visibility.budget is None:
        shown = ~hidden_queries(snapshot, visibility)
    else:
        shown = visible_split(snapshot, visibility, visibility.budget).labelled
    return Visible(shown, visible_rewards(snapshot, shown))


def visible_split(snapshot: Snapshot, visibility: Visibility, budget: float) -> Split:
    """Draw a label budget of which hidden queries are for the report only.

    The draw does not depend on what is hidden, so it is that of `memstore verl data` with the same budget and seed.

    Raises:
        InputError: as in `visible`.
    """
    drawn, shown = label_budget(snapshot, budget, visibility.seed), ~hidden_queries(snapshot, visibility)
    return Split(drawn.train & shown, drawn.select & shown, drawn.report | (drawn.labelled & ~shown))


def hidden_queries(snapshot: Snapshot, visibility: Visibility) -> BoolVector:
    """Audit queries and the queries that hidden runs attempted, bool [Q].

    Raises:
        InputError: there are audit queries and the snapshot has no texts.
    """
    hidden = audit_queries(snapshot)
    if visibility.audit:
        if "text" not in snapshot.queries.column_names:
            raise InputError("audit queries are found by their text and the snapshot has none; take it with texts=True")
        digests = [text_digest(text or "") for text in snapshot.queries["text"].to_pylist()]
        hidden |= np.array([digest in visibility.audit for digest in digests], np.bool_)
    if visibility.hidden_runs:
        of_run = np.isin(snapshot.thinkings["run"].fill_null("").to_numpy(), sorted(visibility.hidden_runs))
        hidden[query_of_thinkings(snapshot)[of_run]] = True
    return hidden


def audit_queries(snapshot: Snapshot) -> BoolVector:
    """Audit queries that the memory marks, bool [Q]; see `memstore.labels.audit`."""
    return in_split(snapshot, AUDIT_SPLIT)


def check_hidden(snapshot: Snapshot, visibility: Visibility) -> None:
    """Check that there is something to hide, since a misspelt name would hide nothing.

    Raises:
        InputError: a hidden run has no rollouts in the snapshot, or none of the audit queries is there.
    """
    runs = set(snapshot.thinkings["run"].to_pylist())
    if unknown := sorted(visibility.hidden_runs - runs):
        raise InputError(
            f"the memory has no run {unknown[0]!r} whose queries could be hidden; `memstore cypher "
            '"MATCH (r:Run) RETURN r.name"` lists its runs'
        )
    if visibility.audit and not hidden_queries(snapshot, Visibility(audit=visibility.audit)).any():
        raise InputError("the memory has none of the audit queries; pass the texts of queries that it holds")


def text_digest(text: str) -> str:
    """Digest of a query's normalised text (see `memstore.text.identity`).

    Audit queries are named by it and not by id, so that they stay hidden under another key or dataset, and after a
    migration that gives queries new ids.
    """
    return hashlib.blake2b(normalised_query(text).encode("utf-8", "replace"), digest_size=12).hexdigest()


def audit_of(texts: Iterable[str]) -> frozenset[str]:
    """`Visibility.audit` for these texts of queries."""
    return frozenset(map(text_digest, texts))
