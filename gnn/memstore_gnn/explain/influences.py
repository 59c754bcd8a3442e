"""What may have moved a score, item by item, each measured by taking it away.

    votes              the other rollouts of the group that lead to one answer, all of them at once
    rollout            one other rollout of the group
    labelled query     every visible label of a query near the rollout's own
    labelled rollout   the one label of a rollout near this one
    labels             every label that the model may look at
    features           one family of features of the group (`families`)

The effect of an item is the probability less the probability without it: above zero, it raised the score. Effects
overlap (a labelled query has labelled rollouts, votes are features too) and do not add up to anything.
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
    """One item of the account."""

    kind: str
    id: str
    """Of the node; of votes, the answer's; of features, the family; of all labels, empty."""
    text: str
    label: float | None
    """Ground truth of a rollout, mean of an answer's or of a query's visible labels; None where unknown."""
    similarity: float | None
    """Cosine to the rollout, of a query to the rollout's query; None where nearness is not what brought it in."""
    taken: int
    """How many rollouts or labels were taken away; of features, how many columns."""
    without: float
    """The probability without it."""
    effect: float
    """The probability less `without`."""


@dataclass(frozen=True)
class Candidate:
    """An influence that is still to be measured."""

    kind: str
    id: str
    text: str
    label: float | None
    similarity: float | None
    taken: int
    take_away: Callable[[], float]

    def measured(self, probability: float) -> Influence:
        """Take it away and score again."""
        without = self.take_away()
        known = self.kind, self.id, self.text, self.label, self.similarity, self.taken
        return Influence(*known, without, probability - without)


def candidates(scene: Scene) -> list[Candidate]:
    """All that may have moved a score; each is measured by itself."""
    return [*_of_group(scene), *_of_labels(scene), *_of_features(scene)]


def _of_group(scene: Scene) -> Iterator[Candidate]:
    """Votes of each answer, and each other rollout of the group."""
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
    """All labels, those of each query nearby, and each label of a rollout nearby."""
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
    """Queries nearby, then those that only own a rollout nearby (these without a cosine)."""
    near = {node.row for node in queries}
    yield from queries
    for row in dict.fromkeys(int(query_of[node.row]) for node in rollouts):
        if row not in near:
            yield row, None


def _of_features(scene: Scene) -> Iterator[Candidate]:
    for family, columns in families(scene.model).items():
        yield Candidate(FEATURES, family, "", None, None, columns, partial(scene.without_family, family))


def answers_of(group: Snapshot) -> tuple[IntVector, list[str]]:
    """The answer of each rollout, int64 [G], -1 where it has none; and the answers' texts."""
    answer = np.full(group.thinkings.num_rows, -1, np.int64)
    leads = group.edges["leads_to"]
    answer[leads.source] = leads.target
    return answer, group.answers["text"].to_pylist()


def _mean(labels: FloatVector) -> float | None:
    known = labels[np.isfinite(labels)]
    return float(known.mean()) if len(known) else None
