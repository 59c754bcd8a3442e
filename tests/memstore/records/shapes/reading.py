"""Read rows as an ingest does, for the tests of shapes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from memstore.errors import RecordError
from memstore.records.record import Record, RecordDefaults, parse_record
from memstore.records.rollouts import open_rollouts

MATH = RecordDefaults(domain="math")


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def records(path: Path, defaults: RecordDefaults = MATH) -> list[Record]:
    """The rollouts of a file; raises the reason of the first row that is rejected."""
    found = []
    for row in open_rollouts(path, defaults):
        if row.values is None:
            raise RecordError(row.reason or "")
        found.append(parse_record(row.values, defaults))
    return found


def reasons(path: Path, defaults: RecordDefaults = MATH) -> list[str]:
    """Why rows of a file are rejected before they are parsed."""
    return [row.reason for row in open_rollouts(path, defaults) if row.reason is not None]


def seen(found: Iterable[Record]) -> list[tuple[str, str, str, str | None, float | None]]:
    """What most tests compare: query, thinking, answer, gold answer and reward."""
    return [(item.query, item.thinking, item.answer, item.gold, item.reward) for item in found]
