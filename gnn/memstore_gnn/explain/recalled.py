"""The remembered verdict on a rollout's answer, and the answer that was judged."""

from __future__ import annotations

from typing import NamedTuple

from memstore.graph.verdicts import RIGHT
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.groups import answer_of_thinkings, query_of_thinkings
from memstore_gnn.data.verdicts import Verdict, Verdicts
from memstore_gnn.explain.influences import own_node
from memstore_gnn.explain.scene import Scene
from memstore_gnn.scoring.remembered import GOLD, Judge, given_of, recall
from memstore_schema.columns import NodeLabel


class Recalled(NamedTuple):
    """A verdict that replaces a prediction, and the node that carries it.

    The node is the judged answer: the rollout's own, or the right one, which shows that every other is wrong. A rollout
    without an answer that a reference answer shows to be wrong carries the verdict itself.
    """

    verdict: Verdict
    node: NodeLabel
    id: str
    text: str


def recalled_for(scene: Scene, snapshot: Snapshot, verdicts: Verdicts, judge: Judge | None = None) -> Recalled | None:
    """The verdict that the memory remembers for the scene's rollout; None without one.

    Args:
        judge: see `memstore_gnn.scoring.remembered.recall`.
    """
    given = given_of(scene.group)[scene.row]
    (verdict,) = recall(verdicts, [given], judge)
    if verdict is None:
        return None
    if verdict.judged_by == GOLD or given.answer in verdicts.answers:
        return Recalled(verdict, *own_node(scene), given.written)
    query = snapshot.queries["id"].to_pylist().index(scene.query)
    answers = answer_of_thinkings(snapshot)[query_of_thinkings(snapshot) == query]
    known = snapshot.answers.select(["id", "text"]).take(sorted({*answers.tolist()} - {-1})).to_pylist()
    right = next(one for one in known if one["id"] in verdicts.answers and verdicts.answers[one["id"]].value > RIGHT)
    return Recalled(verdict, NodeLabel.ANSWER, right["id"], right["text"])
