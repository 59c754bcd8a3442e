"""Read the rollouts of a file of any shape: `open_rollouts` is a reader whose rows are single rollouts.

Rows of tools become one or more rollouts (`memstore.records.shapes`), or those at the paths that the user chose
(`memstore.records.paths`). What cannot be read becomes a row with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from memstore.errors import InputError, RecordError
from memstore.records.event_join import JoinCounts, join_events
from memstore.records.paths import has_path, mapped
from memstore.records.readers import RowSource, open_source
from memstore.records.record import RecordDefaults, Row
from memstore.records.shapes.recognise import TABLE_COLUMNS, rollouts_of
from memstore.records.shapes.shape import Found, Shape

_FIRST_ROWS = 200
"""Rows in which each path of the user must occur once."""
MAPPED = "--map"
"""The name of the shape of rows whose values the user chose."""


class Rollouts(NamedTuple):
    """What a row holds."""

    shape: str
    rows: list[Found]
    """Rows as `memstore.records.record.parse_record` reads them, and the reasons of those that cannot be read."""
    found: Shape | None
    """The shape; None for one that the user chose."""


def read_row(values: Mapping[str, Any], defaults: RecordDefaults) -> Rollouts:
    """The rollouts of a row.

    Raises:
        RecordError: it has none; the message gives the reason.
    """
    if defaults.paths:
        return Rollouts(MAPPED, [mapped(values, defaults.paths)], None)
    if defaults.requests and "custom_id" in values:
        values = {**values, "request": defaults.requests.get(str(values["custom_id"]))}
    shape, rows = rollouts_of(values)
    return Rollouts(shape.name, rows, shape)


def open_rollouts(path: str | Path, defaults: RecordDefaults) -> RolloutSource:
    """Open a file of rollouts; see `memstore.records.readers.open_source`.

    Raises:
        InputError: the file cannot be read, or is a table without the columns of a rollout.
    """
    return RolloutSource(open_source(path, () if defaults.paths else TABLE_COLUMNS), defaults)


class RolloutSource:
    """The rollouts of a source; see `memstore.records.readers.RowSource`. Several may have the number of one row."""

    def __init__(self, source: RowSource, defaults: RecordDefaults) -> None:
        self.name = source.name
        self.stem = source.stem
        self.size = source.size
        self.joined: JoinCounts | None = None
        """What was joined of events, once all rows are read; None if the file has none."""
        self._source = source
        self._defaults = defaults

    def position(self) -> int:
        """Bytes consumed so far."""
        return self._source.position()

    def __iter__(self) -> Iterator[Row]:
        """The rollouts, in the order of the input; see `RowSource`."""
        for row in self.raw_rows():
            if row.values is None:
                yield row
                continue
            try:
                rollouts = read_row(row.values, self._defaults).rows
            except RecordError as error:
                yield Row(row.number, None, str(error), dict(row.values))
                continue
            for found in rollouts:
                if isinstance(found, RecordError):
                    yield Row(row.number, None, str(found), dict(row.values))
                else:
                    yield Row(row.number, found)

    def raw_rows(self) -> Iterator[Row]:
        """The rows as they are in the file, but for events of agent-lightning: those of a rollout are one row.

        Raises:
            InputError: none of the first rows has a path that the user chose.
        """
        rows = iter(self._source)
        if not self._defaults.paths:
            self.joined = yield from join_events(rows, self.name)
            return
        first = list(islice(rows, _FIRST_ROWS))
        readable = [row.values for row in first if row.values is not None]
        for key, path in self._defaults.paths.items():
            if readable and not any(has_path(values, path) for values in readable):
                keys = Counter(name for values in readable for name in values)
                raise InputError(
                    f"no row of {self.name} has {path!r}, which --map names for {key}; the rows have the keys "
                    f"{', '.join(name for name, _ in keys.most_common(20))}"
                )
        yield from chain(first, rows)


def read_requests(path: str | Path) -> dict[str, Any]:
    """The requests of an OpenAI batch's input, by `custom_id`.

    Raises:
        InputError: the file cannot be read, or a row is no request.
    """
    requests: dict[str, Any] = {}
    for row in open_source(path):
        if row.values is None or "custom_id" not in row.values or "body" not in row.values:
            raise InputError(f"{path}:{row.number} is not a request of a batch: it needs custom_id and body")
        requests[str(row.values["custom_id"])] = row.values
    return requests
