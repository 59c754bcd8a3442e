"""The items that may influence a score: what each one is, the node that carries it, and what is removed without it.

    kind                 item                                                                carried by
    vote                 a stored rollout of another group of the query                      Thinking
    rollout              another rollout of the group                                        Thinking
    reliability          a policy's votes count by its reliability, not as the mean policy's Policy
    labelled rollout     the label of a rollout near this one                                Thinking
    labelled query       every visible label of a query near the rollout's own               Query
    other labels         the visible labels of all other queries                             RewardModel
    features             a family of features of the group's texts (`families`)              Answer
    remembered verdict   the verdict on the answer, which replaces the prediction            Answer
    prior                the score without anything else                                     RewardModel

The features are carried by the rollout's answer, since rollouts with the same answer have the same score. Without an
answer, its thinking carries them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from memstore.records.ids import policy_id
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import answer_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.explain.families import families
from memstore_gnn.explain.scene import Neighbour, Removed, Scene
from memstore_schema.columns import NodeLabel

VOTE, ROLLOUT, RELIABILITY, FEATURES = "vote", "rollout", "reliability", "features"
LABELLED, QUERY, LABELS = "labelled rollout", "labelled query", "other labels"
VERDICT, PRIOR = "remembered verdict", "prior"
STEP = ("policy", "step")
KINDS = (VOTE, RELIABILITY, ROLLOUT, LABELS, LABELLED, QUERY, FEATURES, VERDICT, PRIOR)


@dataclass(frozen=True)
class Influence:
    """The influence of one item on a score."""

    kind: str
    node: NodeLabel
    """Label of the node that carries the item."""
    id: str
    """Id of this node."""
    text: str
    """What the node says: the answer of a rollout, the text of a query, the policy, or the family of features."""
    label: float | None
    """Ground truth of a rollout, mean of the visible labels of a query, or the verdict; None if unknown."""
    similarity: float | None
    """Cosine to the rollout, or of a query to the rollout's query; None if the item is not a neighbour."""
    taken: int
    """Number of rollouts, labels or feature columns."""
    without: float
    """Probability without the item, with everything else."""
    effect: float
    """Probability less `without`."""
    weight: float
    """Share of the score's log odds; the weights add up to them."""


@dataclass(frozen=True)
class Item:
    """An item that may influence a score; the fields are those of `Influence`."""

    kind: str
    node: NodeLabel
    id: str
    text: str
    label: float | None
    similarity: float | None
    taken: int
    removed: Removed
    """What is removed without the item."""

    def measured(self, probability: float, without: float, weight: float) -> Influence:
        """The influence of the item on a score of this probability."""
        known = self.kind, self.node, self.id, self.text, self.label, self.similarity, self.taken
        return Influence(*known, without, probability - without, weight)


def items_of(scene: Scene) -> list[Item]:
    """All items that may influence the score, except the verdict and the prior."""
    rollouts = [*_rollouts(VOTE, scene.others), *_rollouts(ROLLOUT, scene.group, scene.id)]
    return [*rollouts, *_reliabilities(scene), *_labels(scene), *_features(scene)]


def _rollouts(kind: str, snapshot: Snapshot, less: str | None = None) -> Iterator[Item]:
    """The rollouts of a snapshot, except the one with the id `less`."""
    answer, labels = answer_of_thinkings(snapshot).tolist(), rewards_of(snapshot)
    texts = snapshot.answers["text"].to_pylist()
    for row, name in enumerate(snapshot.thinkings["id"].to_pylist()):
        if name != less:
            text, removed = texts[answer[row]] if answer[row] >= 0 else "", Removed(rollouts=frozenset([name]))
            yield Item(kind, NodeLabel.THINKING, name, text, _mean(labels[[row]]), None, 1, removed)


def _reliabilities(scene: Scene) -> Iterator[Item]:
    """The policies of the group and of the votes of others; none without such votes."""
    tables = (scene.group.thinkings, scene.others.thinkings) if scene.others.thinkings.num_rows else ()
    pairs = [pair for table in tables for pair in zip(*(table[name].to_pylist() for name in STEP), strict=True)]
    for (name, step), taken in sorted(Counter(pairs).items(), key=str):
        if name is not None:
            reliability = scene.reliable[name, step]
            text = f"{name}{'' if step is None else f' at step {step}'}: {reliability:.2f} right"
            removed = Removed(policies=frozenset([(name, step)]))
            yield Item(RELIABILITY, NodeLabel.POLICY, policy_id(name, step), text, None, None, taken, removed)


def _labels(scene: Scene) -> Iterator[Item]:
    """The labels of each neighbouring query, the label of each neighbouring rollout, and all others."""
    memory, reward, query_of = scene.memory, scene.reward, scene.query_of
    known = np.isfinite(reward)
    queries, rollouts = scene.neighbours
    texts, ids = memory.queries["text"].to_pylist(), memory.queries["id"].to_pylist()
    for row, cosine in _with_owners(queries, rollouts, query_of):
        gone = known & (query_of == row)
        removed, taken = Removed(labels=frozenset(np.flatnonzero(gone).tolist())), int(gone.sum())
        yield Item(QUERY, NodeLabel.QUERY, ids[row], texts[row], _mean(reward[gone]), cosine, taken, removed)
    thinkings = memory.thinkings["id"].to_pylist()
    for row, cosine in rollouts:
        removed, text = Removed(labels=frozenset([row])), texts[query_of[row]]
        yield Item(LABELLED, NodeLabel.THINKING, thinkings[row], text, float(reward[row]), cosine, 1, removed)
    near = int((known & scene.near[query_of]).sum())
    if len(scene.labels) > near:
        model, taken = scene.model.card.id, len(scene.labels) - near
        yield Item(LABELS, NodeLabel.REWARD_MODEL, model, "", _mean(scene.labels), None, taken, Removed(far=True))


def _with_owners(
    queries: list[Neighbour], rollouts: list[Neighbour], query_of: IntVector
) -> Iterator[tuple[int, float | None]]:
    """Neighbouring queries, then queries of neighbouring rollouts (without a cosine)."""
    near = {node.row for node in queries}
    yield from queries
    for row in dict.fromkeys(int(query_of[node.row]) for node in rollouts):
        if row not in near:
            yield row, None


def _features(scene: Scene) -> Iterator[Item]:
    node, name = own_node(scene)
    for family, columns in families(scene.model).items():
        yield Item(FEATURES, node, name, family, None, None, columns, Removed(families=frozenset([family])))


def own_node(scene: Scene) -> tuple[NodeLabel, str]:
    """The node of the rollout's answer; that of its thinking without an answer."""
    answer = int(answer_of_thinkings(scene.group)[scene.row])
    if answer < 0:
        return NodeLabel.THINKING, scene.id
    return NodeLabel.ANSWER, str(scene.group.answers["id"][answer].as_py())


def _mean(labels: FloatVector) -> float | None:
    known = labels[np.isfinite(labels)]
    return float(known.mean()) if len(known) else None
