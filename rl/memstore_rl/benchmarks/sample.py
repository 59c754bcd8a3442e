"""Which questions of a benchmark are asked, what for, and which of them are labelled.

A seed puts questions into an order that depends on nothing but their ids (`memstore_gnn.data.splits`): not on the
order of
the source, and a smaller sample is part of a larger one. Half of the sample is for training, a fifth for validation,
the rest for testing, as in the paper; `memstore_rl.benchmarks.budget` draws that, and the labels. One benchmark has to
be drawn
with one seed: another one trains on what this one tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from memstore_gnn.data.splits import draw
from memstore_rl.benchmarks.budget import Identified, cut, labelled
from memstore_rl.benchmarks.question import Question

VALIDATION, TEST = 0.2, 0.3
"""Shares of a sample; training has the rest."""


def seeded_order(query_ids: Sequence[str], seed: int) -> list[int]:
    """The places of queries in the order of the seed."""
    places = draw(query_ids, [""] * len(query_ids), 1.0, seed)
    return [int(place) for place in places[0]] if places else []


def with_splits(questions: Sequence[Question], seed: int) -> list[Question]:
    """The questions, each with what it is for."""
    names = cut([Identified(question.id, question.dataset) for question in questions], VALIDATION, TEST, seed)
    return [replace(question, split=name) for question, name in zip(questions, names, strict=True)]


def labelled_ids(questions: Sequence[Question], budget: float, seed: int = 0) -> frozenset[str]:
    """Ids of the training questions whose gold may be used: a share of every dataset, 20 % being part of 30 %.

    A question without a split counts as one for training, one without a gold as none. `memstore verl data` labels the
    same ones, and a reward model trained with the same budget and seed sees the labels of these.

    Raises:
        InputError: the budget is not a share.
    """
    known = [question for question in questions if question.gold and question.split in ("train", None)]
    return labelled([Identified(question.id, question.dataset) for question in known], budget, seed)
