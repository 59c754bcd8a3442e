"""How often people agree where they have given verdicts on the same answers.

A verdict of a person is compared with what each other person said last about the same rollouts. A verdict that another
person has overwritten, or contradicts and leaves, counts as a disagreement; to repeat such a contradiction counts once.
Labels without a name are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from memstore.labels.journal import LabelBatch


class Agreement(NamedTuple):
    """Two people, and the verdicts of either that the other had given a verdict on before."""

    people: tuple[str, str]
    """In alphabetical order."""
    verdicts: int
    agreed: int

    @property
    def share(self) -> float:
        """Share of the verdicts that agree."""
        return self.agreed / self.verdicts


def agreement(batches: Iterable[LabelBatch]) -> list[Agreement]:
    """The agreement of each two people who overlap, those with most verdicts first.

    Args:
        batches: the journal's verdicts, oldest first.
    """
    said: dict[str, dict[str, float]] = {}
    verdicts, agreed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for batch in batches:
        if batch.by is None:
            continue
        same: dict[str, bool] = {}
        for change in batch.changes:
            people = said.setdefault(change.rollout, {})
            if change.after is None:
                people.pop(batch.by, None)
                continue
            if not batch.written and people.get(batch.by) == change.after:
                continue
            for other, reward in people.items():
                if other != batch.by:
                    same[other] = same.get(other, True) and reward == change.after
            people[batch.by] = change.after
        for other, equal in same.items():
            pair = (min(other, batch.by), max(other, batch.by))
            verdicts[pair] += 1
            agreed[pair] += equal
    return [Agreement(pair, count, agreed[pair]) for pair, count in verdicts.most_common()]
