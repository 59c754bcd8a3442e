"""Score again what a verdict moves most: the rollouts without a label of its query and of the queries nearest to it.

It computes the scores that `memstore score` would give them now. A label moves all scores of a memory a little; those
of other queries stay as they are until the next `memstore score`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.errors import InputError
from memstore.graph.protocol import ScoreBatch
from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.models.device import device_memory, one_core
from memstore_gnn.models.stored_model import open_model, seen_by
from memstore_gnn.scoring.remembered import Judge
from memstore_gnn.scoring.score import REMEMBERED, Scores, score_memory
from memstore_gnn.scoring.score_table import score_table
from memstore_schema.columns import NodeLabel

NEAR = 32
"""Queries near the labelled ones whose rollouts are scored again."""
MOST = 20_000
"""Rollouts of a memory up to which this is done: the labels of the whole memory are read each time."""


@dataclass(frozen=True)
class Rescored:
    """What came of scoring again."""

    model: str
    rollouts: int
    """Rollouts without a label that have a new score."""
    queries: int
    crossed: int
    """Rollouts whose probability is now on the other side of one half."""
    mean_change: float | None
    """Mean absolute change of the probabilities; None if none of the rollouts had a score."""
    labelled: Mapping[str, float]
    """Probability of labelled rollouts, predicted without the labels of their own query."""


def rescore_near(
    memory: Memory,
    queries: Sequence[str],
    *,
    labelled: Collection[str] = (),
    judge: Judge | None = None,
    device: str | None = None,
) -> Rescored:
    """Score the rollouts without a label of these queries, and of the `NEAR` nearest ones, and store the scores.

    Args:
        queries: ids of queries whose labels have changed.
        labelled: ids of labelled rollouts to predict as well; nothing of them is stored.
        judge, device: as in `memstore_gnn.verbs.score.score_memory_rollouts`.

    Raises:
        InputError: the memory has more than `MOST` rollouts.
        ModelError: the memory has no reward model, or the one in use does not fit it.
        ReadOnlyError: the memory cannot be written to.
    """
    model = open_model(memory, None, device)
    size = memory.graph.nodes(NodeLabel.THINKING, ["id"]).num_rows
    if size > MOST:
        raise InputError(
            f"a memory of {size:,} rollouts is not scored after each verdict; run memstore score when you have finished"
        )
    snapshot = memory.snapshot()
    seen = seen_by(model, snapshot)
    ids = snapshot.thinkings["id"].to_numpy()
    query, is_open = query_of_thinkings(snapshot), ~np.isfinite(seen.reward)
    wanted = is_open & _near(snapshot, queries, is_open)[query]
    extra = np.isin(ids, list(labelled))
    with one_core(), device_memory(f"scoring {int(wanted.sum()):,} rollouts"):
        verdicts = verdicts_of(snapshot, seen)
        scores = score_memory(model, snapshot, wanted | extra, reward=seen.reward, verdicts=verdicts, judge=judge)
    own = wanted[wanted | extra]
    found = Scores._make(column[own] for column in scores)
    memory.record_scores(ScoreBatch(model={"id": model.card.id}, scores=score_table(found), replace=True))
    change = found.probability - (before := _stored(snapshot, model.card.id)[wanted])
    known = np.isfinite(before)
    predicted = extra[wanted | extra] & (scores.source != REMEMBERED)
    return Rescored(
        model=model.card.id,
        rollouts=len(found.id),
        queries=len(np.unique(query[wanted])),
        crossed=int(((found.probability > 0.5) != (before > 0.5))[known].sum()),
        mean_change=float(np.abs(change[known]).mean()) if known.any() else None,
        labelled=dict(zip(scores.id[predicted].tolist(), scores.probability[predicted].tolist(), strict=True)),
    )


def _near(snapshot: Snapshot, queries: Sequence[str], is_open: BoolVector) -> BoolVector:
    """These queries and the nearest ones that have a rollout without a label; bool [Q]."""
    chosen = pc.is_in(snapshot.queries["id"], value_set=pa.array(queries, pa.string())).to_numpy()
    has_open = np.bincount(query_of_thinkings(snapshot)[is_open], minlength=len(chosen)) > 0
    others = np.flatnonzero(has_open & snapshot.query_has_x & ~chosen)
    given = np.flatnonzero(chosen & snapshot.query_has_x)
    near = chosen.copy()
    if len(others) and len(given):
        cosine = _unit(snapshot.query_x[others]) @ _unit(snapshot.query_x[given]).T
        near[others[np.argsort(-cosine.max(1), kind="stable")[:NEAR]]] = True
    return near


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def _stored(snapshot: Snapshot, model: str) -> FloatVector:
    """The stored probability of each rollout by a model, float64 [T]; NaN without one."""
    edges, found = snapshot.edges["scored_by"], np.full(snapshot.thinkings.num_rows, np.nan)
    own = snapshot.reward_models["id"].to_numpy()[edges.target] == model
    found[edges.source[own]] = edges.properties["probability"].to_numpy()[own]
    return found
