"""Choose the queries of a snapshot to label next.

A share of the queue is drawn uniformly at random for audit: `memstore.labels.audit` says what that means. The draw is
a function of the seed and of the open queries; marked audit queries that are still open come first. The others are
chosen by one of two criteria:

    training   before a policy is trained: the labels cover the uncertain queries (`memstore_gnn.queue.cover`)
    pages      where a person's verdict changes the advantages most (`memstore_gnn.queue.worth`)

Near-duplicates of a labelled, chosen or audit query come last.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from memstore.errors import InputError
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatMatrix, FloatVector, IntVector
from memstore_gnn.data.splits import draw
from memstore_gnn.data.visibility import audit_queries
from memstore_gnn.queue.candidates import Candidates, candidates
from memstore_gnn.queue.cover import Cover, CoverSettings, Neighbourhood, Pick, greedy, in_order, uncertainty
from memstore_gnn.queue.items import ItemMaker, QueueItem
from memstore_gnn.queue.worth import advantage_worth

Criterion: TypeAlias = Literal["training", "pages"]
CRITERIA: tuple[Criterion, ...] = ("training", "pages")
AUDIT_SHARE = 0.2
"""Share of a queue that is for audit."""


def choose_queries(
    snapshot: Snapshot,
    limit: int,
    *,
    criterion: Criterion = "training",
    probability: FloatVector | None = None,
    audit_share: float = AUDIT_SHARE,
    seed: int = 0,
    settings: CoverSettings | None = None,
) -> list[QueueItem]:
    """Choose up to `limit` open queries, in the order in which to label them; audit queries are spread evenly.

    Args:
        snapshot: its queries have vectors.
        criterion: one of `CRITERIA`.
        probability: float64 [T], probability that each rollout is right; None estimates it from votes.
        audit_share: share of the queue that is drawn at random for audit, 0..1.
        seed: of this draw.

    Raises:
        InputError: no query is open, the criterion is unknown, or the limit or the share is out of range.
    """
    if criterion not in CRITERIA:
        raise InputError(f"there is no criterion {criterion!r}; use one of {', '.join(CRITERIA)}")
    if limit < 1 or not 0.0 <= audit_share <= 1.0:
        raise InputError(
            f"a queue of {limit} queries with an audit share of {audit_share:g} is not possible; use at least 1 query "
            "and a share from 0 to 1"
        )
    if not snapshot.thinkings.num_rows:
        raise InputError("the memory has no rollouts to label; add some with `memstore ingest`")
    found = candidates(snapshot, probability)
    if not found.open.any():
        raise InputError("no query is left to label: each has a right answer, or a verdict on every answer")
    settings = settings or CoverSettings(seed=seed)
    audit = _audit_rows(snapshot, found, _audit_count(limit, audit_share), seed)
    marked = audit_queries(snapshot)
    marked[audit] = True
    x = _vectors(snapshot)
    known = Neighbourhood(x[found.labelled | marked])
    rows, left = np.flatnonzero(found.open & ~marked), limit - len(audit)
    weight = None
    if criterion == "training":
        weight = np.where(found.open & ~marked, uncertainty(found.top_share, settings), 0.0)
        cover = Cover(x, weight, found.labelled & ~marked, settings)
        picks = greedy(cover, rows, known, left, settings.duplicate)
    else:
        picks = in_order(x, rows, advantage_worth(found), known, left, settings.duplicate)
    return _items(ItemMaker(snapshot, found), found, picks, audit, weight)


def _audit_count(limit: int, share: float) -> int:
    return int(limit * share + 0.5)


def _audit_rows(snapshot: Snapshot, found: Candidates, count: int, seed: int) -> IntVector:
    """Open queries for audit, in the order of the draw: marked ones first."""
    ids = snapshot.queries["id"].to_pylist()
    order = draw(ids, [""] * len(ids), 1.0, seed)[0]
    order = order[found.open[order]]
    marked = audit_queries(snapshot)[order]
    return np.concatenate((order[marked], order[~marked]))[:count]


def _vectors(snapshot: Snapshot) -> FloatMatrix:
    """Vectors of the queries, float32 [Q, D]; zero without one. D is at least 1."""
    x = snapshot.query_x
    return x if x.shape[1] else np.zeros((snapshot.queries.num_rows, 1), np.float32)


def _items(
    maker: ItemMaker, found: Candidates, picks: list[Pick], audit: IntVector, weight: FloatVector | None
) -> list[QueueItem]:
    """The chosen queries with the audit queries spread among them. `weight`: uncertainties, float64 [Q]."""
    chosen = [_chosen(maker, found, pick, weight) for pick in picks]
    drawn = [maker.item(int(row), "audit", {}, "drawn at random for audit") for row in audit]
    total, made = len(chosen) + len(drawn), list[QueueItem]()
    for position in range(total):
        # After n items, n * share of them are audit queries, rounded down.
        due = (position + 1) * len(audit) // total > position * len(audit) // total
        made.append((drawn if due else chosen).pop(0))
    return made


def _chosen(maker: ItemMaker, found: Candidates, pick: Pick, weight: FloatVector | None) -> QueueItem:
    votes, near = maker.votes(pick.row), f"nearest labelled or chosen query {pick.similarity:.2f}"
    why = {"top_share": float(found.top_share[pick.row]), "similarity": pick.similarity}
    if weight is not None:
        why |= {"uncertainty": float(weight[pick.row]), "gain": pick.gain}
        return maker.item(pick.row, "label", why, f"{votes}, {near}, covers {pick.gain:.2%} of the uncertainty")
    why |= {"worth": pick.gain}
    return maker.item(
        pick.row, "label", why, f"{votes}, {near}, expected squared change of the advantages {pick.gain:.3f}"
    )
