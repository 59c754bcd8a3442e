"""`explain_rollout`: measure the influences on one score, and optionally store them in the memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from memstore.memory import Memory
from memstore.progress import Progress, Silent
from memstore.snapshots.aliases import first_datasets
from memstore_gnn.data.groups import answer_of_thinkings
from memstore_gnn.data.read_memory import read_memory
from memstore_gnn.data.verdicts import verdicts_of
from memstore_gnn.explain.edges import Edge, record_influences
from memstore_gnn.explain.find import ANY_ROLLOUT, RolloutFilter, find_rollout
from memstore_gnn.explain.influences import Influence
from memstore_gnn.explain.measure import measure
from memstore_gnn.explain.recalled import Recalled, recalled_for
from memstore_gnn.explain.scene import Scene, scene_of
from memstore_gnn.models.device import device_memory
from memstore_gnn.models.stored_model import open_model, seen_by
from memstore_gnn.scoring.reliability import estimate_reliabilities, reliability_edges
from memstore_gnn.scoring.remembered import Judge
from memstore_gnn.scoring.score import GROUND_TRUTH, PREDICTED, REMEMBERED


@dataclass(frozen=True)
class Explanation:
    """The score of a rollout and its influences, by decreasing absolute weight."""

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
    """Rollouts of the group."""
    votes_of_others: int
    """Stored rollouts of the query's other groups with this answer; 0 without an answer."""
    others: int
    """Stored rollouts of the query's other groups, whose votes count."""
    model: str
    probability: float
    reward: float
    """Reward for policy optimisation: a label or remembered verdict that the model may see, or the probability."""
    source: str
    logit: float
    """Log odds of the score: of a remembered verdict, which counts as at most 1e-6 from 0 or 1, or of the probability.
    The weights of the influences add up to them."""
    influences: tuple[Influence, ...]
    edges: tuple[Edge, ...]
    """The influences by node, as `write` stores them."""
    written: int | None = None
    """INFLUENCED_BY edges written; None if not requested."""
    judged_by: str | None = None
    judged_at: str | None = None
    """Who judged a remembered answer and when, see `memstore_gnn.data.verdicts.Verdict`."""

    def as_json(self) -> dict[str, Any]:
        """The JSON document that the command prints."""
        return asdict(self)


def explain_rollout(
    memory: Memory,
    rollout: str,
    matching: RolloutFilter = ANY_ROLLOUT,
    *,
    model: str | None = None,
    write: bool = False,
    judge: Judge | None = None,
    device: str | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Explain the score that a model of the memory gives one of its rollouts.

    Args:
        rollout, matching: see `find_rollout`.
        model: id of one of the memory's models; None is the model that `score` uses.
        write: also store the nodes that influenced the score as INFLUENCED_BY edges, and replace this
            model's earlier ones. The reliabilities of policies are stored as RELIABLE_IN edges, as `score` does.
        judge: compares the answer with a reference answer in the memory, as in `score_memory_rollouts`.

    Raises:
        InputError: no rollout matches, or several do.
        ModelError: there is no such model, or it does not fit this memory.
    """
    progress = progress or Silent()
    chosen = open_model(memory, model, device)
    progress.stage("read the memory")
    snapshot, contents = read_memory(memory)
    row = find_rollout(snapshot, rollout, matching)
    seen = seen_by(chosen, snapshot)
    with device_memory(f"explaining rollout {snapshot.thinkings['id'][row]}"):
        verdicts = verdicts_of(snapshot, seen)
        scene = scene_of(chosen, snapshot, seen.reward, row, verdicts, contents)
        recalled = None if np.isfinite(seen.reward[row]) else recalled_for(scene, snapshot, verdicts, judge)
        explained = explain(scene, progress, recalled)
    if np.isfinite(seen.reward[row]):
        explained = replace(explained, reward=float(seen.reward[row]), source=GROUND_TRUTH)
    if write:
        memory.graph.replace_reliabilities(reliability_edges(estimate_reliabilities(snapshot, verdicts)))
        explained = replace(
            explained, written=record_influences(memory, explained.model, explained.rollout, explained.edges)
        )
    return explained


def explain(scene: Scene, progress: Progress | None = None, recalled: Recalled | None = None) -> Explanation:
    """Measure all influences on the score of the scene's rollout.

    Args:
        recalled: the remembered verdict that replaces the prediction; None if there is none. The effects of all other
            items are then on the prediction.
    """
    found = measure(scene, progress or Silent(), recalled)
    group = scene.group
    thinking = {name: group.thinkings[name][scene.row].as_py() for name in ("policy", "run", "step", "sample_index")}
    query = group.queries.slice(0, 1).to_pylist()[0]
    answer = answer_of_thinkings(group)
    own = int(answer[scene.row])
    verdict = None if recalled is None else recalled.verdict
    return Explanation(
        rollout=scene.id,
        query=query["id"],
        question=query["text"],
        dataset=first_datasets(group)[0] or None,
        **thinking,
        answer=group.answers["text"][own].as_py() if own >= 0 else None,
        votes=int((answer == own).sum()) if own >= 0 else 0,
        group=len(answer),
        votes_of_others=_votes_of_others(scene, own),
        others=scene.others.thinkings.num_rows,
        model=scene.model.card.id,
        probability=found.probability,
        reward=found.probability if verdict is None else verdict.value,
        source=PREDICTED if verdict is None else REMEMBERED,
        logit=found.logit,
        influences=found.influences,
        edges=found.edges,
        judged_by=None if verdict is None else verdict.judged_by,
        judged_at=None if verdict is None else verdict.judged_at,
    )


def _votes_of_others(scene: Scene, answer: int) -> int:
    """Rollouts of the other groups with an answer (a row of the group's answers, -1 without one)."""
    if answer < 0:
        return 0
    same = scene.others.answers["id"].to_numpy() == scene.group.answers["id"][answer].as_py()
    given = answer_of_thinkings(scene.others)
    return int(same[given[given >= 0]].sum())
