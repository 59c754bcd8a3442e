"""`Shape`: how the rows of a tool are recognised and turned into rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from memstore.errors import RecordError
from memstore.records.adapters import RECORD_KEYS

RowValues = Mapping[str, Any]
Found = dict[str, Any] | RecordError
"""A rollout of a row, or the reason why one of its several rollouts cannot be read."""
_FORM_ERRORS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)
"""What a conversion raises for values of another form than the tool writes."""
_LONGEST_KEPT = 1_000
"""Characters of a text that is kept as metadata though its shape does not read it."""


@dataclass(frozen=True)
class Shape:
    """A layout of rows.

    A conversion yields rows as TRL writes them: `prompt` and `completion`, each a text or messages, with `gold`,
    `reward` and further keys. `memstore.records.adapters` reads these.
    """

    name: str
    keys: frozenset[str]
    """Keys that every row of the shape has."""
    convert: Callable[[RowValues], Iterable[Found]]
    """The rollouts of a row; raises `RecordError` for a row that has none."""
    reads: frozenset[str] = frozenset()
    """Further keys that the conversion reads. Of all others, numbers and short texts are kept as metadata."""
    accepts: Callable[[RowValues], bool] | None = None
    """A test of the values, for keys that other rows have too."""
    is_exclusive: bool = True
    """Whether the shape is that of a tool, which wins over the columns of a data set in the same row."""
    keeps_all: bool = False
    """Whether a row is one rollout already and `memstore.records.adapters` keeps all that it does not read."""

    def matches(self, values: RowValues) -> bool:
        """Whether a row has this shape."""
        return self.keys <= values.keys() and (self.accepts is None or self.accepts(values))

    def rollouts(self, values: RowValues) -> Iterator[Found]:
        """The rollouts of a row, each with what is kept of the rest."""
        kept = {key: value for key, value in self.unread(values).items() if _is_kept(value)}
        own = {key: kept.pop(key) for key in list(kept) if key in RECORD_KEYS and key != "step"}
        try:
            for found in self.convert(values):
                if isinstance(found, RecordError):
                    yield found
                    continue
                yield {**kept, **found, "metadata": {**own, **found.get("metadata", {})}} if own else {**kept, **found}
        except _FORM_ERRORS as error:
            raise RecordError(
                f"the row has the keys of {self.name}, but not its form ({type(error).__name__}: {error!s:.100}); "
                "choose the values with --map, for example query=PATH,response=PATH"
            ) from error

    def unread(self, values: RowValues) -> dict[str, Any]:
        """The values that the conversion does not read."""
        return {key: value for key, value in values.items() if key not in self.keys and key not in self.reads}


def _is_kept(value: object) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_KEPT)


def dropped(shape: Shape, values: RowValues) -> list[str]:
    """The keys of a row that are neither read nor kept."""
    if shape.keeps_all:
        return []
    return [key for key, value in shape.unread(values).items() if value is not None and not _is_kept(value)]


def of_each(parts: Iterable[Any], convert: Callable[[Any], Iterable[Found]]) -> Iterator[Found]:
    """The rollouts of the parts of a row. A part without any, or of another form, does not affect the others."""
    for number, part in enumerate(parts, 1):
        try:
            yield from convert(part)
        except RecordError as error:
            yield error
        except _FORM_ERRORS as error:
            yield RecordError(
                f"part {number} of the row has another form than its tool writes ({type(error).__name__}: "
                f"{error!s:.100}); correct it"
            )


def rollout(prompt: object, completion: object, **further: Any) -> dict[str, Any]:
    """A rollout for `memstore.records.adapters`; missing values are left out, but for the reward."""
    given = {key: value for key, value in further.items() if value is not None}
    return {"reward": None, **given, "prompt": prompt, "completion": completion}


def at(values: object, *path: str | int) -> Any:
    """The value at a path of keys and positions; None if there is none."""
    for step in path:
        if isinstance(step, str) and isinstance(values, Mapping):
            values = values.get(step)
        elif isinstance(step, int) and isinstance(values, list) and -len(values) <= step < len(values):
            values = values[step]
        else:
            return None
    return values


def only_number(values: Mapping[str, Any]) -> float | None:
    """The only number in 0..1 among named scores; None if there are several or none."""
    numbers = [float(value) for value in values.values() if isinstance(value, bool | int | float) and 0 <= value <= 1]
    return numbers[0] if len(numbers) == 1 else None


def need(value: Any, reason: str) -> Any:
    """The value, or an error if it is missing or empty."""
    if value is None or value == "" or value == []:
        raise RecordError(reason)
    return value
