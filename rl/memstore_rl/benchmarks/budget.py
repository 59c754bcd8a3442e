"""Which queries are trained on, and which of those are labelled.

A seed puts the queries of a dataset into an order, that of a hash of seed and query id. The first of them are for
training, the next for validation, the last for testing; the label budget is the first of the training queries, in
the order of a seed of its own. So a split depends on nothing but the set of queries and two numbers: not on the
order of a file, and 20 % is part of 30 %. It is the order that `memstore_gnn.data.splits` draws by: a reward model
that is
trained with a budget on a memory of the same queries sees the labels of the same ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from memstore.errors import InputError
from memstore_gnn.data.splits import draw

SplitName: TypeAlias = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class Identified(NamedTuple):
    """What a split looks at of a query."""

    id: str
    dataset: str


def cut(queries: Sequence[Identified], validation: float, test: float, seed: int) -> list[SplitName]:
    """For each query what it is for; every dataset gives its share to each.

    Args:
        validation, test: shares, 0..1; what they leave is for training.

    Raises:
        InputError: they are no shares, or leave nothing.
    """
    if min(validation, test) < 0 or validation + test >= 1:
        raise InputError(
            f"the shares of validation ({validation:g}) and test ({test:g}) must not be negative and must leave "
            "something to train on"
        )
    named: list[SplitName] = ["test"] * len(queries)
    for name, share in (("validation", 1 - test), ("train", 1 - test - validation)):
        for position in _first(queries, share, seed):
            named[position] = name  # type: ignore[call-overload]
    return named


def labelled(queries: Sequence[Identified], budget: float, seed: int) -> frozenset[str]:
    """Ids of the queries whose ground truth may be used: a share of every dataset.

    Raises:
        InputError: the budget is not a share.
    """
    return frozenset(queries[position].id for position in _first(queries, budget, seed))


def _first(queries: Sequence[Identified], share: float, seed: int) -> list[int]:
    ids, datasets = [query.id for query in queries], [query.dataset for query in queries]
    return [int(position) for rows in draw(ids, datasets, share, seed) for position in rows]
