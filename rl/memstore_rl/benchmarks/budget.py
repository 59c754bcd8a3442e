"""Draw data splits and label budgets.

A seed orders the queries of a dataset by a hash of seed and query id. The first are for training, the next for
validation, the last for testing. The label budget is the beginning of the training queries in the order of a second
seed. So a split depends only on the set of queries and two numbers, not on the order of a file, and 20 % is a subset of
30 %. `memstore_gnn.data.splits` uses the same order: a reward model trained with a budget on a memory of the same
queries sees the labels of the same queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias

from memstore.errors import InputError
from memstore_gnn.data.splits import draw

SplitName: TypeAlias = Literal["train", "validation", "test"]
AuditSplit: TypeAlias = Literal["audit"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


class Identified(NamedTuple):
    """The properties of a query that a split uses."""

    id: str
    dataset: str


def cut(queries: Sequence[Identified], validation: float, test: float, seed: int) -> list[SplitName]:
    """Split queries, stratified by dataset; return the split of each query.

    Args:
        validation, test: shares, 0..1; the rest is for training.

    Raises:
        InputError: a share is negative, or nothing is left for training.
    """
    if min(validation, test) < 0 or validation + test >= 1:
        raise InputError(
            f"the shares of validation ({validation:g}) and test ({test:g}) must not be negative and must leave "
            "something to train on"
        )
    splits: list[SplitName] = ["test"] * len(queries)
    for name, share in (("validation", 1 - test), ("train", 1 - test - validation)):
        for position in _first(queries, share, seed):
            splits[position] = name  # type: ignore[call-overload]
    return splits


def keep_in_training(
    queries: Sequence[Identified], splits: Sequence[SplitName], labelled_ids: frozenset[str], seed: int
) -> list[SplitName]:
    """Move labelled queries to the training split, each in exchange for an unlabelled training query of its dataset.

    Args:
        splits: the split of each query, from `cut` with the same seed.

    Raises:
        InputError: a dataset has more labelled queries than training queries.
    """
    moved = list(splits)
    ids, datasets = [query.id for query in queries], [query.dataset for query in queries]
    for rows in draw(ids, datasets, 1.0, seed):
        out = [row for row in rows if moved[row] != "train" and ids[row] in labelled_ids]
        free = [row for row in rows[::-1] if moved[row] == "train" and ids[row] not in labelled_ids]
        if len(out) > len(free):
            raise InputError(
                f"the label budget is larger than the training split of the dataset {datasets[rows[0]]!r}; choose a "
                "smaller budget, or smaller shares of validation and test"
            )
        for row, other in zip(out, free, strict=False):
            moved[row], moved[other] = moved[other], moved[row]
    return moved


def labelled(queries: Sequence[Identified], budget: float, seed: int) -> frozenset[str]:
    """Return the ids of the labelled queries: a share of every dataset.

    Raises:
        InputError: the budget is not a share.
    """
    return frozenset(queries[position].id for position in _first(queries, budget, seed))


def _first(queries: Sequence[Identified], share: float, seed: int) -> list[int]:
    ids, datasets = [query.id for query in queries], [query.dataset for query in queries]
    return [int(position) for rows in draw(ids, datasets, share, seed) for position in rows]
