"""Measure the influence of rollouts, labels and features on a score by leaving each out.

    votes              the other rollouts of the group that lead to one answer, all of them at once
    rollout            one other rollout of the group
    labelled query     every visible label of a query near the rollout's own
    labelled rollout   the one label of a rollout near this one
    labels             every label that the model may look at
    features           one family of features of the group (`families`)

The effect of an item is the probability less the probability without it; an effect above zero raised the score.
Effects overlap (a labelled query has labelled rollouts, votes are features too) and do not add up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.explain.families import families
from memstore_gnn.explain.scene import Neighbour, Scene

VOTES, ROLLOUT, FEATURES = "votes", "rollout", "features"
QUERY, LABELLED, LABELS = "labelled query", "labelled rollout", "labels"


@dataclass(frozen=True)
class Influence:
    """The influence of one item on a score."""

    kind: str
    id: str
    """Id of the node; for votes, of the answer; for features, the family; empty for all labels."""
    text: str
    label: float | None
    """Ground truth of a rollout, or mean of the visible labels of an answer or query; None if unknown."""
    similarity: float | None
    """Cosine to the rollout, or of a query to the rollout's query; None if the item is not a neighbour."""
    taken: int
    """Number of rollouts, labels or feature columns left out."""
    without: float
    """Probability without the item."""
    effect: float
    """Probability less `without`."""


@dataclass(frozen=True)
class Candidate:
    """An influence to measure."""

    kind: str
    id: str
    text: str
    label: float | None
    similarity: float | None
    taken: int
    leave_out: Callable[[], float]

    def measured(self, probability: float) -> Influence:
        """Score without the item."""
        without = self.leave_out()
        known = self.kind, self.id, self.text, self.label, self.similarity, self.taken
        return Influence(*known, without, probability - without)


def candidates(scene: Scene) -> list[Candidate]:
    """All items that can have influenced a score."""
    return [*_of_group(scene), *_of_labels(scene), *_of_features(scene)]


def _of_group(scene: Scene) -> Iterator[Candidate]:
    """The votes for each answer, and each other rollout of the group."""
    group = scene.group
    others = np.arange(group.thinkings.num_rows) != scene.row
    answer, texts = answers_of(group)
    labels = rewards_of(group)
    for value in sorted(set(answer[others & (answer >= 0)].tolist())):
        gone = others & (answer == value)
        node = group.answers["id"][value].as_py()
        text = texts[value]
        yield Candidate(
            VOTES, node, text, _mean(labels[gone]), None, int(gone.sum()), partial(scene.without_rollouts, gone)
        )
    ids = group.thinkings["id"].to_pylist()
    for row in np.flatnonzero(others).tolist():
        text = texts[answer[row]] if answer[row] >= 0 else ""
        gone = np.arange(len(others)) == row
        yield Candidate(ROLLOUT, ids[row], text, _mean(labels[[row]]), None, 1, partial(scene.without_rollouts, gone))


def _of_labels(scene: Scene) -> Iterator[Candidate]:
    """All labels, those of each neighbouring query, and the label of each neighbouring rollout."""
    memory, reward, query_of = scene.memory, scene.reward, scene.query_of
    known = np.isfinite(reward)
    if not known.any():
        return
    labels = scene.labels
    yield Candidate(LABELS, "", "", _mean(labels), None, len(labels), partial(scene.without_labels, known))
    queries, rollouts = scene.near()
    texts, ids = memory.queries["text"].to_pylist(), memory.queries["id"].to_pylist()
    for row, cosine in _with_owners(queries, rollouts, query_of):
        gone = known & (query_of == row)
        measure = partial(scene.without_labels, gone)
        yield Candidate(QUERY, ids[row], texts[row], _mean(reward[gone]), cosine, int(gone.sum()), measure)
    thinkings = memory.thinkings["id"].to_pylist()
    for row, cosine in rollouts:
        gone = np.arange(len(reward)) == row
        measure = partial(scene.without_labels, gone)
        yield Candidate(LABELLED, thinkings[row], texts[query_of[row]], float(reward[row]), cosine, 1, measure)


def _with_owners(
    queries: list[Neighbour], rollouts: list[Neighbour], query_of: IntVector
) -> Iterator[tuple[int, float | None]]:
    """Neighbouring queries, then queries of neighbouring rollouts (without a cosine)."""
    near = {node.row for node in queries}
    yield from queries
    for row in dict.fromkeys(int(query_of[node.row]) for node in rollouts):
        if row not in near:
            yield row, None


def _of_features(scene: Scene) -> Iterator[Candidate]:
    for family, columns in families(scene.model).items():
        yield Candidate(FEATURES, family, "", None, None, columns, partial(scene.without_family, family))


def answers_of(group: Snapshot) -> tuple[IntVector, list[str]]:
    """Answer of each rollout, int64 [G], -1 without an answer; and the texts of the answers."""
    answer = np.full(group.thinkings.num_rows, -1, np.int64)
    leads = group.edges["leads_to"]
    answer[leads.source] = leads.target
    return answer, group.answers["text"].to_pylist()


def _mean(labels: FloatVector) -> float | None:
    known = labels[np.isfinite(labels)]
    return float(known.mean()) if len(known) else None
