"""A page of disagreements of a kind: sorted, paged by key, with the reason of each in a line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from memstore.errors import InputError
from memstore_rl.inspector.disagreements import Disagreement, Disagreements, Kind
from memstore_rl.inspector.source import Source
from memstore_rl.inspector.texts import one_line
from memstore_schema.columns import NodeLabel

Order: TypeAlias = Literal["gap", "rollouts", "query"]
PAGE = 40
ANSWER_TEXT = 60
"""Characters of an answer in a reason."""
TITLES: dict[Kind, str] = {
    "truth": "Model against truth",
    "votes": "Model against votes",
    "model": "Model against model",
    "step": "Step against step",
}


@dataclass(frozen=True)
class DisagreementLine:
    """A disagreement in a list."""

    query: str
    text: str
    answer: str
    """Id of the answer that it is about."""
    reason: str
    gap: float
    rollouts: int


@dataclass(frozen=True)
class DisagreementPage:
    """A page of disagreements."""

    kind: Kind
    order: Order
    lines: tuple[DisagreementLine, ...]
    total: int
    kept: int
    nothing: str
    """Why there are none, if there are none."""
    after: str | None
    """Key after which the next page begins; None on the last page."""


def disagreement_page(
    source: Source, found: Disagreements, kind: Kind, order: Order = "gap", after: str = "", limit: int = PAGE
) -> DisagreementPage:
    """The disagreements of a kind after a key, `limit` at a time.

    Raises:
        InputError: the key is not one of this list.
    """
    rows = sorted(found.of_kind[kind].rows, key=_KEYS[order])
    start = 0
    if after:
        last = _position(after)
        start = sum(_KEYS[order](row) <= (last[0] if order != "query" else 0.0, *last[1:]) for row in rows)
    shown = rows[start : start + limit]
    return DisagreementPage(
        kind=kind,
        order=order,
        lines=tuple(_lines(source, found, kind, shown)),
        total=found.of_kind[kind].total,
        kept=len(rows),
        nothing=_nothing(found, kind),
        after=_after(_KEYS[order](shown[-1])) if start + limit < len(rows) else None,
    )


_Key: TypeAlias = tuple[float, str, str, str]


def _names(row: Disagreement) -> tuple[str, str, str]:
    return row.query, "-".join(row.answers), f"{row.where} {row.steps}"


_KEYS: dict[Order, Callable[[Disagreement], _Key]] = {
    "gap": lambda row: (-row.gap, *_names(row)),
    "rollouts": lambda row: (-float(row.rollouts), *_names(row)),
    "query": lambda row: (0.0, *_names(row)),
}


def _after(key: _Key) -> str:
    return "~".join((repr(key[0]), *key[1:]))


def _position(after: str) -> _Key:
    try:
        value, query, answers, where = after.split("~", 3)
        return float(value), query, answers, where
    except ValueError:
        raise InputError("the address names no place in this list; begin with its first page") from None


def _nothing(found: Disagreements, kind: Kind) -> str:
    if kind == "step":
        return "No policy answers a query otherwise at its last step than at its first."
    if found.model is None:
        return "No model has scored this memory; run: memstore score."
    if kind == "model" and found.other is None:
        return "Only one model has scored this memory."
    return "There is no such disagreement."


def _lines(source: Source, found: Disagreements, kind: Kind, rows: Sequence[Disagreement]) -> list[DisagreementLine]:
    queries = source.nodes(NodeLabel.QUERY, ["id", "text"], ids=sorted({row.query for row in rows})).to_pylist()
    names = sorted({name for row in rows for name in row.answers})
    answers = source.nodes(NodeLabel.ANSWER, ["id", "text"], ids=names).to_pylist()
    text_of = {node["id"]: one_line(node["text"]) for node in queries}
    answer_of = {node["id"]: one_line(node["text"], ANSWER_TEXT) for node in answers}
    lines = []
    for row in rows:
        first, second = (repr(answer_of.get(name, name)) for name in row.answers)
        reason = _reason(kind, found, row, first, second)
        text = text_of.get(row.query, "")
        lines.append(DisagreementLine(row.query, text, row.answers[0], reason, row.gap, row.rollouts))
    return lines


def _reason(kind: Kind, found: Disagreements, row: Disagreement, first: str, second: str) -> str:
    one, two = row.values
    if kind == "truth":
        said = "right" if two >= 1 else "wrong" if two <= 0 else f"labelled {two:.2f}"
        return f"{first} is {said}, and the model gives it {one:.2f}"
    if kind == "votes":
        return f"the model prefers {first} ({one:.2f}) to the most frequent {second} ({two:.2f})"
    if kind == "model":
        return f"{first}: {one:.2f} by {found.model}, {two:.2f} by {found.other}"
    before, after = row.steps
    who = f"{row.where}: " if row.where else ""
    return f"{who}{first} leads at step {before} ({one:.0%}), {second} at step {after} ({two:.0%})"
