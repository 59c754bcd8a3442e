"""Join agent-lightning's events, of which a dump has one a row: the calls of a rollout's attempt with its last reward.

The rows may come in any order. Of each attempt, the first and the last call that succeeded and the last reward are
kept, in a temporary database of SQLite that grows on the disk, so memory does not depend on the length of the file.
Joined are the events of one file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from memstore.errors import InputError
from memstore.records.record import Row
from memstore.records.shapes.events import Part, part_of

_CACHE_KIB = 64 * 1024
"""Memory of the temporary database before it grows on the disk."""
_SCHEMA = """
CREATE TABLE part (rollout TEXT, attempt TEXT, place TEXT, time REAL, number INTEGER, event TEXT,
                   PRIMARY KEY (rollout, attempt, place))
"""
_KEEP = """
INSERT INTO part VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE
SET time = excluded.time, number = excluded.number, event = excluded.event
WHERE (excluded.time, excluded.number) {order} (part.time, part.number)
"""
_PLACES = {
    "call": (("first", "<"), ("last", ">")),
    "reward": (("reward", ">"),),
    "failed": (("other", ">"),),
    "other": (("other", ">"),),
}
"""Where the events of a kind are kept, and whether the earliest or the latest one is."""
_ATTEMPTS = "SELECT rollout, attempt FROM part GROUP BY rollout, attempt ORDER BY min(number)"
_PARTS = "SELECT place, number, event FROM part WHERE rollout = ? AND attempt = ?"


class JoinCounts(NamedTuple):
    """What was joined of the events of a file."""

    events: int
    """Calls and rewards."""
    rollouts: int
    """Attempts with a call of the model that succeeded."""
    rewarded: int
    """Of these, those with a reward."""
    without_call: int
    """Attempts without such a call, which are rejected."""
    others: int
    """Events that are neither calls nor rewards, and calls that failed."""


def join_events(rows: Iterable[Row], name: str) -> Generator[Row, None, JoinCounts | None]:
    """Yield all rows that are no events, and then a row of each rollout that the events make up.

    Args:
        name: the name of the file, for messages.

    Returns:
        what was joined; None if there are no events.

    Raises:
        InputError: the disk of the temporary files is full.
    """
    join: _Join | None = None
    try:
        for row in rows:
            part = part_of(row.values) if row.values is not None else None
            if part is None:
                yield row
                continue
            join = join or _Join()
            join.add(part, row.number)
        if join is None:
            return None
        yield from join.rollouts()
        return join.counts
    except sqlite3.Error as error:
        raise InputError(
            f"the events of {name} cannot be joined: {error}; free space in the folder of temporary files, or choose "
            "another one with SQLITE_TMPDIR"
        ) from error
    finally:
        if join is not None:
            join.close()


class _Join:
    def __init__(self) -> None:
        self.counts = JoinCounts(0, 0, 0, 0, 0)
        self._database = sqlite3.connect("")  # a temporary file that nobody else sees
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute(_SCHEMA)

    def add(self, part: Part, number: int) -> None:
        """Keep an event if it is the first or the last of its kind."""
        is_part = part.kind in ("call", "reward")
        self._count(events=is_part, others=not is_part)
        event = json.dumps(part.event, default=str) if is_part else ""
        for place, order in _PLACES[part.kind]:
            self._database.execute(_KEEP.format(order=order), (*part.rollout, place, part.time, number, event))

    def rollouts(self) -> Iterator[Row]:
        """The rollouts, in the order of their first rows."""
        with closing(self._database.execute(_ATTEMPTS)) as attempts:
            for rollout, attempt in attempts:
                found = {
                    place: (number, event)
                    for place, number, event in self._database.execute(_PARTS, (rollout, attempt))
                }
                if "last" not in found:
                    self._count(without_call=1)
                    yield _without_call(rollout, found)
                    continue
                self._count(rollouts=1, rewarded="reward" in found)
                events = [json.loads(found[place][1]) for place in ("first", "last", "reward") if place in found]
                yield Row(found["last"][0], {"rollout_id": rollout, "attempt_id": attempt, "events": events})

    def _count(self, **more: int) -> None:
        self.counts = self.counts._replace(**{name: getattr(self.counts, name) + n for name, n in more.items()})

    def close(self) -> None:
        """Remove the temporary file."""
        self._database.close()


def _without_call(rollout: str, found: dict[str, tuple[int, str]]) -> Row:
    number, event = found.get("reward") or found["other"]
    what = "has a reward and no call of a model" if "reward" in found else "has no call of a model"
    reason = f"the rollout {rollout!r:.60} {what} that succeeded; write all events of a rollout into one file"
    return Row(number, None, reason, {"rollout_id": rollout, "event": json.loads(event)} if event else None)
