"""Preview: what an ingest of files would read, without a memory."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from memstore.errors import InputError, RecordError
from memstore.records.event_join import JoinCounts
from memstore.records.readers import expand_paths
from memstore.records.record import Record, RecordDefaults, parse_record
from memstore.records.rollouts import Rollouts, open_rollouts, read_row
from memstore.records.shapes.shape import dropped

SHOWN_RECORDS = 5
_REASONS = 5
"""Different reasons of rejected rows that are listed."""


@dataclass
class FilePreview:
    """What a file holds."""

    file: str
    shapes: Counter[str] = field(default_factory=Counter)
    """Rows by the name of their shape."""
    rows: int = 0
    """Rows, also those that are rejected. Events that are joined to a rollout are one."""
    rollouts: int = 0
    records: list[Record] = field(default_factory=list)
    """The first rollouts, as they would be stored."""
    kept: Counter[str] = field(default_factory=Counter)
    """Keys that only the metadata keeps, with the number of rollouts."""
    left_over: Counter[str] = field(default_factory=Counter)
    """Keys that nothing reads, with the number of rows."""
    rejected: int = 0
    reasons: list[str] = field(default_factory=list)
    """The first reason of each kind, with its row."""
    error: str | None = None
    """Why the file cannot be read, or not to its end."""
    labelled: int = 0
    """Rollouts with a reward."""
    joined: JoinCounts | None = None
    """Events that were joined to rollouts."""

    def as_json(self) -> dict[str, Any]:
        """The document that the command prints with `--json`."""
        return {
            "file": self.file,
            "shapes": dict(self.shapes),
            "rows": self.rows,
            "rollouts": self.rollouts,
            "rewards": self.labelled,
            "records": [asdict(record) for record in self.records],
            "kept_as_metadata": dict(self.kept),
            "left_over": dict(self.left_over),
            "joined": None if self.joined is None else self.joined._asdict(),
            "rejected": self.rejected,
            "reasons": self.reasons,
            "error": self.error,
        }


def preview(sources: Sequence[str | Path], defaults: RecordDefaults | None = None) -> list[FilePreview]:
    """Read files as an ingest would, and report per file what is in it. Nothing is written.

    Whether a rollout contradicts one that a memory holds is not checked.

    Raises:
        InputError: there is no such file.
    """
    return [_preview(file, defaults or RecordDefaults()) for file in expand_paths(sources)]


def _preview(file: str | Path, defaults: RecordDefaults) -> FilePreview:
    found = FilePreview(os.fsencode(file).decode("utf-8", "backslashreplace"))
    kinds: set[str] = set()

    def reject(number: int, reason: str) -> None:
        found.rejected += 1
        kind = reason[:40]
        if kind not in kinds and len(kinds) < _REASONS:
            kinds.add(kind)
            found.reasons.append(f"{number}: {reason}")

    try:
        source = open_rollouts(file, defaults)
        for row in source.raw_rows():
            found.rows += 1
            if row.values is None:
                reject(row.number, row.reason or "unreadable")
                continue
            try:
                rollouts = read_row(row.values, defaults)
            except RecordError as error:
                reject(row.number, str(error))
                continue
            found.shapes[rollouts.shape] += 1
            found.left_over.update(_left_over(rollouts, row.values, defaults))
            for values in rollouts.rows:
                try:
                    if isinstance(values, RecordError):
                        raise values
                    _count(found, parse_record(values, defaults), row.values)
                except RecordError as error:
                    reject(row.number, str(error))
        found.joined = source.joined
    except InputError as error:
        found.error = str(error)
    return found


def _left_over(rollouts: Rollouts, values: Mapping[str, Any], defaults: RecordDefaults) -> list[str]:
    """The keys of a row that nothing reads."""
    if rollouts.found is not None:
        return dropped(rollouts.found, values)
    paths = defaults.paths.values()
    return [key for key in values if not any(path == key or path.startswith(f"{key}.") for path in paths)]


def _count(found: FilePreview, record: Record, values: Mapping[str, Any]) -> None:
    found.rollouts += 1
    found.labelled += record.reward is not None
    if len(found.records) < SHOWN_RECORDS:
        found.records.append(record)
    if record.metadata is not None:
        found.kept.update(json.loads(record.metadata).keys() & values.keys())
