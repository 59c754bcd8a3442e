"""Orders the rows of a training file so that a chosen share of each batch is labelled.

Consecutive rows of the file form batches. Each batch has the same number of labelled rows, spread evenly over it.
Labelled rows are repeated to reach the share; if more rows are labelled than the share asks for, unlabelled rows are.
An epoch has every row at least once. Rows come in turns: each part is shuffled, used up and shuffled again, and a batch
holds a row twice only if the part has fewer rows than its places in the batch.

The share holds for a trainer that reads the file in its order and drops no row. `KEEP_ORDER` is the sentence for users.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from memstore.errors import InputError

HALF = 0.5
"""Default share of labelled rows in a batch."""
KEEP_ORDER = (
    "A batch has its labelled rows if the trainer reads the file in order (data.shuffle=False in verl, "
    "shuffle_dataset=False in TRL); a shuffled order, filtered prompts and verl's asynchronous modes keep the share on "
    "average only."
)
_LARGEST_DEFAULT = 1000
"""Largest batch size that is chosen for a share."""
_METADATA = b"memstore_batches"


@dataclass(frozen=True)
class BatchPlan:
    """How to order the rows of a training file with labelled and unlabelled rows."""

    labelled_share: float | None = None
    """Share of a batch's rows that are labelled, above 0 and at most 1. None: half; a file without labelled rows, or
    without unlabelled ones, is left as it is."""
    size: int | None = None
    """Rows of a batch, each a prompt. None: the smallest size with exactly this share; its multiples have it too."""
    seed: int = 0
    """Seed of the order."""


class Batches(NamedTuple):
    """The batches of a file."""

    size: int
    labelled: int
    """Labelled rows of a batch."""


def check_plan(plan: BatchPlan) -> None:
    """Check the numbers of a plan.

    Raises:
        InputError: the share or the batch size is out of range.
    """
    if plan.labelled_share is not None and not 0 < plan.labelled_share <= 1:
        raise InputError(f"the labelled share is {plan.labelled_share:g}; it must be above 0 and at most 1")
    if plan.size is not None and plan.size < 1:
        raise InputError(f"the batch size is {plan.size}; it must be 1 or more")


def in_batches(table: pa.Table, labelled: Sequence[bool], plan: BatchPlan) -> pa.Table:
    """Order and repeat the rows of a table.

    Args:
        labelled: of shape (rows,), whether each row is labelled.

    Raises:
        InputError: the table has no labelled row, or no unlabelled one, for the share that the plan names; or a batch
            would have none.
    """
    if plan.labelled_share is None and (all(labelled) or not any(labelled)):
        return table
    batches = _batches(labelled, plan)
    table = table.take(_order(labelled, batches, plan.seed))
    metadata = {**(table.schema.metadata or {}), _METADATA: json.dumps(batches._asdict()).encode()}
    return table.replace_schema_metadata(metadata)


def batches_of(file: Path) -> Batches | None:
    """Return the batches of a Parquet file that `in_batches` ordered; None for another file."""
    written = (pq.read_schema(file).metadata or {}).get(_METADATA)
    return Batches(**json.loads(written)) if written else None


def _batches(labelled: Sequence[bool], plan: BatchPlan) -> Batches:
    check_plan(plan)
    share = HALF if plan.labelled_share is None else plan.labelled_share
    size = plan.size or Fraction(share).limit_denominator(_LARGEST_DEFAULT).denominator
    count = math.floor(share * size + 0.5)
    if not any(labelled):
        raise InputError("no row is labelled, so no batch can have labelled rows; raise the budget")
    if all(labelled) and share < 1:
        raise InputError("every row is labelled, so no batch can have unlabelled rows; use a labelled share of 1")
    if count == 0:
        raise InputError(
            f"a labelled share of {share:g} leaves no labelled row in a batch of {size}; use a larger batch or share"
        )
    if count == size and not all(labelled):
        raise InputError(
            f"a labelled share of {share:g} leaves no unlabelled row in a batch of {size}; use a larger batch, a "
            "smaller share, or mode budget, which has the labelled rows only"
        )
    return Batches(size, count)


def _order(labelled: Sequence[bool], batches: Batches, seed: int) -> list[int]:
    """Return the positions of the rows, batch after batch."""
    parts = [[row for row, flag in enumerate(labelled) if flag is wanted] for wanted in (True, False)]
    places = (batches.labelled, batches.size - batches.labelled)
    count = max(math.ceil(len(part) / place) for part, place in zip(parts, places, strict=True) if place)
    rng = random.Random(seed)
    known, unknown = (_turns(part, count, place, rng) for part, place in zip(parts, places, strict=True))
    order: list[int] = []
    for of_known, of_unknown in zip(known, unknown, strict=True):
        for place in range(batches.size):
            is_known = (place + 1) * batches.labelled // batches.size > place * batches.labelled // batches.size
            order.append((of_known if is_known else of_unknown).pop())
    return order


def _turns(rows: Sequence[int], batches: int, places: int, rng: random.Random) -> list[list[int]]:
    """Deal rows to batches in shuffled turns, avoiding rows that are in the batch already."""
    dealt: list[list[int]] = []
    turn: list[int] = []
    for _ in range(batches):
        batch: list[int] = []
        while len(batch) < places:
            if not turn:
                turn = _shuffled(rows, frozenset(batch), rng)
            batch.append(turn.pop())
        dealt.append(batch)
    return dealt


def _shuffled(rows: Sequence[int], last: frozenset[int], rng: random.Random) -> list[int]:
    """Shuffle rows to be taken from the end, those of `last` after all others."""
    return sorted(rng.sample(rows, len(rows)), key=lambda row: row not in last)
