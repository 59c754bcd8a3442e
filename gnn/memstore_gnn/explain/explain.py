"""`explain_rollout`: measure the influences on one score, and optionally store them in the memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from memstore.graph.protocol import InfluenceUpdate
from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore_gnn.explain.find import ANYBODY, Who, find_rollout
from memstore_gnn.explain.influences import LABELLED, QUERY, ROLLOUT, Influence, answers_of, candidates
from memstore_gnn.explain.scene import Scene, scene_of
from memstore_gnn.models.device import device_memory
from memstore_gnn.models.stored_model import open_model, visible_to
from memstore_gnn.scoring.score import GROUND_TRUTH, PREDICTED
from memstore_schema.columns import NodeLabel

TARGETS = {ROLLOUT: NodeLabel.THINKING, LABELLED: NodeLabel.THINKING, QUERY: NodeLabel.QUERY}
"""Kinds whose items are nodes, the targets of INFLUENCED_BY."""
NEAR = 1e-6
"""Effects up to this size are rounding and are not written."""


@dataclass(frozen=True)
class Explanation:
    """The score of a rollout and its influences, by decreasing absolute effect."""

    rollout: str
    query: str
    question: str
    dataset: str | None
    policy: str | None
    run: str | None
    step: int | None
    sample_index: int | None
    answer: str | None
    votes: int
    """Rollouts of the group with this answer, this one included; 0 without an answer."""
    group: int
    """Rollouts of the query."""
    model: str
    probability: float
    reward: float
    """Reward for policy optimisation: the label if the model may see it, otherwise the probability."""
    source: str
    influences: tuple[Influence, ...]
    written: int | None = None
    """INFLUENCED_BY edges written; None if not requested."""

    def as_json(self) -> dict[str, Any]:
        """The JSON document that the command prints."""
        return asdict(self)


def explain_rollout(
    memory: Memory,
    rollout: str,
    who: Who = ANYBODY,
    *,
    model: str | None = None,
    write: bool = False,
    device: str | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Explain the score that a model of the memory gives one of its rollouts.

    Args:
        rollout, who: see `find_rollout`.
        model: id of one of the memory's models; None is the model that `score` uses.
        write: also store the nodes that influenced the score as INFLUENCED_BY edges, and replace this
            model's earlier ones.

    Raises:
        InputError: no rollout matches, or several do.
        ModelError: there is no such model, or it does not fit this memory.
    """
    progress = progress or Silent()
    chosen = open_model(memory, model, device)
    progress.stage("read the memory")
    snapshot = memory.snapshot()
    row = find_rollout(snapshot, rollout, who)
    reward = visible_to(chosen, snapshot)
    with device_memory(f"explaining rollout {snapshot.thinkings['id'][row]}"):
        explained = explain(scene_of(chosen, snapshot, reward, row), progress)
    if np.isfinite(reward[row]):
        explained = replace(explained, reward=float(reward[row]), source=GROUND_TRUTH)
    if write:
        explained = replace(explained, written=record_influences(memory, explained))
    return explained


def explain(scene: Scene, progress: Progress | None = None) -> Explanation:
    """Measure all influences on the score of the scene's rollout."""
    progress = progress or Silent()
    probability = scene.probability()
    found = candidates(scene)
    progress.stage("score without each influence", len(found))
    influences = []
    for candidate in found:
        influences.append(candidate.measured(probability))
        progress.advance(1)
    influences.sort(key=lambda one: (-abs(one.effect), one.kind, one.id))
    group = scene.group
    thinking = {name: group.thinkings[name][scene.row].as_py() for name in ("policy", "run", "step", "sample_index")}
    query = group.queries.slice(0, 1).to_pylist()[0]
    answer, texts = answers_of(group)
    own = int(answer[scene.row])
    return Explanation(
        rollout=scene.id,
        query=query["id"],
        question=query["text"],
        dataset=query["dataset"],
        **thinking,
        answer=texts[own] if own >= 0 else None,
        votes=int((answer == own).sum()) if own >= 0 else 0,
        group=len(answer),
        model=scene.model.card.id,
        probability=probability,
        reward=probability,
        source=PREDICTED,
        influences=tuple(influences),
    )


def record_influences(memory: Memory, explained: Explanation) -> int:
    """Store the nodes that influenced a score as INFLUENCED_BY edges; return their number.

    Earlier edges of this model and rollout are replaced, so that writing again changes nothing.
    """
    moved = [one for one in explained.influences if one.kind in TARGETS and abs(one.effect) > NEAR]
    edges = {
        label: _edges(explained.rollout, [one for one in moved if TARGETS[one.kind] is label])
        for label in (NodeLabel.QUERY, NodeLabel.THINKING)
    }
    memory.graph.replace_influences(InfluenceUpdate(explained.model, [explained.rollout], edges))
    return len(moved)


def _edges(rollout: str, influences: Sequence[Influence]) -> pa.Table:
    return pa.table(
        {
            "source": pa.array([rollout] * len(influences), pa.string()),
            "target": pa.array([one.id for one in influences], pa.string()),
            "weight": pa.array([one.effect for one in influences], pa.float64()),
        }
    )
