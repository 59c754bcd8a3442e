"""Seeded order, splits and labelled questions of a benchmark.

The seeded order depends only on the query ids (`memstore_gnn.data.splits`), not on the order of the source, and a
smaller sample is a prefix of a larger one. Half of a sample is for training, a fifth for validation and the rest for
testing, as in the paper; `memstore_rl.benchmarks.budget` draws splits and labels. Use one seed for a study: with
another seed, training questions become test questions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memstore_gnn.data.splits import draw
from memstore_rl.benchmarks.budget import Identified, cut, labelled
from memstore_rl.benchmarks.question import Question

VALIDATION, TEST = 0.2, 0.3
"""Shares of validation and test questions; the rest is for training."""


def seeded_order(query_ids: Sequence[str], seed: int) -> list[int]:
    """The indices of the queries in seeded order."""
    order = draw(query_ids, [""] * len(query_ids), 1.0, seed)
    return [int(index) for index in order[0]] if order else []


def with_splits(questions: Sequence[Question], seed: int) -> list[Question]:
    """The questions with a split each."""
    names = cut([Identified(question.id, question.dataset) for question in questions], VALIDATION, TEST, seed)
    return [replace(question, split=name) for question, name in zip(questions, names, strict=True)]


def labelled_ids(questions: Sequence[Question], budget: float, seed: int = 0) -> frozenset[str]:
    """Ids of the training questions whose gold may be used: a share of each dataset; smaller budgets are subsets.

    Questions without a split count as training questions; questions without a gold are left out. `memstore verl data`
    labels the same questions, and a reward model trained with the same budget and seed sees the same labels.

    Raises:
        InputError: the budget is not between 0 and 1.
    """
    known = [question for question in questions if question.gold and question.split in ("train", None)]
    return labelled([Identified(question.id, question.dataset) for question in known], budget, seed)
