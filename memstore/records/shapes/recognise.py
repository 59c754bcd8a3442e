"""The table of shapes, and the shape of a row.

A row that two shapes of tools match is refused, as is one whose columns hold two responses. Rows are never guessed at:
without a shape, they are refused with their keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.records.adapters import REQUIRED_COLUMNS
from memstore.records.layouts import as_prompt_and_completion, missing_keys, split_chat
from memstore.records.shapes.data_sets import DATA_SET_SHAPES
from memstore.records.shapes.evaluations import EVALUATION_SHAPES
from memstore.records.shapes.events import EVENT_SHAPES
from memstore.records.shapes.logtree import TRANSCRIPT
from memstore.records.shapes.shape import Found, RowValues, Shape, of_each
from memstore.records.shapes.trainers import TRAINER_SHAPES
from memstore.text.chat import read_completion

_OWN_TEXTS = ("answer", "response", "thinking")


def _as_it_is(values: RowValues) -> Iterator[Found]:
    yield dict(values)


def _table(values: RowValues) -> Iterator[Found]:
    """A table of Weights & Biases: its rows may have any shape."""
    columns = list(map(str, values["columns"]))
    yield from of_each(values["data"], lambda row: rollouts_of(dict(zip(columns, row, strict=True)))[1])


def _is_memstore(values: RowValues) -> bool:
    return any(key in values for key in _OWN_TEXTS)


def _is_verl(values: RowValues) -> bool:
    texts = isinstance(values["input"], str | list) and isinstance(values["output"], str)
    return texts and ("instruction" not in values or "gts" in values)


def _is_chat(values: RowValues) -> bool:
    return "completion" not in values and split_chat(values["messages"]) is not None


def _is_question(values: RowValues) -> bool:
    return "completion" not in values and as_prompt_and_completion(_without_chat(values)) is not None


def _without_chat(values: RowValues) -> RowValues:
    return {key: value for key, value in values.items() if key != "messages"}


MEMSTORE = Shape("memstore", frozenset(["query"]), _as_it_is, accepts=_is_memstore, keeps_all=True)
VERL = Shape(
    "verl rollouts", frozenset(["input", "output"]), _as_it_is, accepts=_is_verl, keeps_all=True, is_exclusive=False
)
TRL = Shape(
    "TRL, verifiers results", frozenset(["prompt", "completion"]), _as_it_is, is_exclusive=False, keeps_all=True
)
CHAT = Shape("messages", frozenset(["messages"]), _as_it_is, accepts=_is_chat, keeps_all=True, is_exclusive=False)
QUESTION = Shape(
    "question with response",
    frozenset(["response"]),
    _as_it_is,
    accepts=_is_question,
    keeps_all=True,
    is_exclusive=False,
)
ROW_SHAPES = (VERL, TRL, CHAT, QUESTION)
"""Shapes with one rollout a row that `memstore.records.adapters` reads, besides memstore's own."""
SHAPES = (
    MEMSTORE,
    *ROW_SHAPES,
    *TRAINER_SHAPES,
    *EVENT_SHAPES,
    TRANSCRIPT,
    *EVALUATION_SHAPES,
    *DATA_SET_SHAPES,
    Shape("Weights & Biases table", frozenset(["columns", "data"]), _table),
)
"""All shapes."""
TABLE_COLUMNS = (*REQUIRED_COLUMNS, *(tuple(sorted(shape.keys)) for shape in SHAPES[1 + len(ROW_SHAPES) :]))
"""Sets of columns; a table of rollouts has all columns of one of them."""


def shape_of(values: RowValues) -> Shape:
    """The shape of a row.

    Raises:
        RecordError: none is known, or several match.
    """
    if MEMSTORE.matches(values):
        return MEMSTORE
    found = [shape for shape in SHAPES[1:] if shape.matches(values)]
    found = [shape for shape in found if shape.is_exclusive] or found
    if not found and "query" in values:
        return MEMSTORE  # whose message names the texts that are missing
    if not found:
        raise RecordError(missing_keys(values))
    if len(found) > 1 and len({_response(shape, values) for shape in found}) > 1:
        names = " and ".join(repr(shape.name) for shape in found)
        raise RecordError(
            f"the row matches {names}, which read different responses in it; choose the values with --map, for example "
            "query=PATH,response=PATH"
        )
    return found[0]


def rollouts_of(values: RowValues) -> tuple[Shape, list[Found]]:
    """The shape of a row and its rollouts, as `memstore.records.record.parse_record` reads them.

    Raises:
        RecordError: the row has no shape, or it has no rollouts.
    """
    shape = shape_of(values)
    if shape.keeps_all:
        return shape, [dict(values)]
    rollouts = list(shape.rollouts(values))
    if not rollouts:
        raise RecordError(f"the row has the keys of {shape.name}, but no rollouts")
    return shape, rollouts


def _response(shape: Shape, values: RowValues) -> str:
    """The response that a shape reads in a row; its name if that is not known beforehand."""
    if shape is VERL:
        return str(values["output"]).strip()
    if shape is TRL or shape is QUESTION:
        renamed: Mapping[str, Any] | None = values if shape is TRL else as_prompt_and_completion(_without_chat(values))
        return (read_completion((renamed or {}).get("completion")) or "").strip()
    if shape is CHAT:
        split = split_chat(values["messages"])
        return (read_completion(split[1]) or "").strip() if split else ""
    if shape.is_exclusive:
        return shape.name
    found = next(iter(shape.rollouts(values)), {})
    return shape.name if isinstance(found, RecordError) else (read_completion(found.get("completion")) or "").strip()
