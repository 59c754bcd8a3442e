"""`explain_rollout`: the account of one score, measured on an open memory, and kept in it when asked."""

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
"""Kinds whose items are nodes that INFLUENCED_BY can lead to."""
NEAR = 1e-6
"""An effect that is smaller is rounding and not written."""


@dataclass(frozen=True)
class Explanation:
    """Why a rollout has its score; `influences` by falling size of the effect."""

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
    """Rollouts of the group that lead to this answer, this one included; 0 without an answer."""
    group: int
    """Rollouts of the query."""
    model: str
    probability: float
    reward: float
    """What policy optimisation gets: the label if the model may look at one, else the probability."""
    source: str
    influences: tuple[Influence, ...]
    written: int | None = None
    """INFLUENCED_BY edges that were written; None where that was not asked for."""

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints."""
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
        rollout, who: which one; see `find_rollout`.
        model: id of one of the memory's models; None takes the one that `score` takes.
        write: also keep the nodes that moved the score as INFLUENCED_BY, in place of what this model had there.

    Raises:
        InputError: no such rollout, or several.
        ModelError: no such model, or one that does not fit this memory.
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
    """Measure everything that may have moved the score of the scene's rollout."""
    progress = progress or Silent()
    probability = scene.probability()
    found = candidates(scene)
    progress.stage("take away and score again", len(found))
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
    """Keep the nodes that moved a score as INFLUENCED_BY; return how many.

    What this model had there for this rollout is replaced, so that writing again changes nothing.
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
