"""Labels that follow from a right answer, and are removed with it.

Where a query has one right answer, a right answer labels the others 0. When it loses its label or becomes wrong and no
other answer of the query is right, these labels have no support and are removed. A label that a verdict on the answer
itself gave stays; the journal tells the two apart. In journals of versions that did not record it, no label is implied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from memstore.graph.verdicts import ONE_RIGHT_VALUE, RIGHT
from memstore.labels.answer_index import AnswerIndex
from memstore.labels.journal import Journal


def withdrawn_rollouts(
    index: AnswerIndex,
    journal: Journal,
    queries: Iterable[int],
    rewards: Mapping[str, float | None],
    stored: Mapping[str, float | None],
) -> list[str]:
    """Rollouts whose implied label is removed by these rewards.

    Args:
        queries: positions of queries.
        rewards: new rewards by rollout of these queries; None removes the label.
        stored: the present labels of all rollouts of these queries.
    """
    free = list[str]()
    for query in queries:
        if index.domains[query] not in ONE_RIGHT_VALUE:
            continue
        rollouts = index.rollout_ids(index.rollouts_of(query))
        was_right = any(is_right(stored[rollout]) for rollout in rollouts)
        if was_right and not any(is_right(rewards.get(rollout, stored[rollout])) for rollout in rollouts):
            free += [rollout for rollout in rollouts if rollout not in rewards]
    if not free:
        return []
    implied = journal.implied()
    return [rollout for rollout in free if rollout in implied and stored[rollout] is not None]


def is_right(reward: float | None) -> bool:
    """Whether a label says that the answer is right."""
    return reward is not None and reward > RIGHT
