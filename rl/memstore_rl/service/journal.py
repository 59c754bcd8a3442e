"""A durable queue between the answers and the memory: what is in it was acknowledged, and is not in the memory yet.

One SQLite file in write-ahead mode. `append` returns when the entries are on the disk, so an answer that is sent
after it can be relied on, whatever is killed next. An entry leaves with `remove`, after the memory holds it: a kill in
between hands it out again, and the memory, whose ids come from content, takes it as the one it has.

An entry has a key made of what identifies a rollout; a second one of the same key is not taken. A request that is sent
again, because its answer was lost, adds nothing.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from memstore.errors import CorruptStoreError, StoreError, StoreFullError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    row TEXT NOT NULL,
    model TEXT,
    probability REAL,
    reward REAL
)
"""
_INSERT = "INSERT OR IGNORE INTO entry (key, row, model, probability, reward) VALUES {} RETURNING key"
_ROWS = 256
"""Entries of one statement: every statement lets go of Python's lock, and waits for it while another thread scores."""
_BUSY_SECONDS = 30.0


class Entry(NamedTuple):
    """One rollout that was answered."""

    key: str
    row: str
    """The rollout as a row of an input: a JSON object."""
    model: str | None
    """The reward model that scored it; None where none did."""
    probability: float | None
    reward: float | None


class Journal:
    """The queue, on disk. Its methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        """Open the queue in a file, which is made if it is not there.

        Raises:
            CorruptStoreError: the file is no queue of ours.
            StoreError: it cannot be opened.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            with self._connection:
                self._connection.execute(_SCHEMA)
            self._waiting = int(self._connection.execute("SELECT count(*) FROM entry").fetchone()[0])
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error
        except OSError as error:
            raise StoreError(f"the journal {path} cannot be made: {error.strerror}") from error

    def __len__(self) -> int:
        """How many entries wait."""
        return self._waiting

    def append(self, entries: Sequence[Entry]) -> set[str]:
        """Put entries on the disk; return the keys of those that were not there yet.

        Raises:
            StoreFullError: no space; none of them was taken.
        """
        added: set[str] = set()
        with self._lock:
            try:
                with self._connection:
                    for start in range(0, len(entries), _ROWS):
                        part = entries[start : start + _ROWS]
                        insert = _INSERT.format(", ".join(["(?, ?, ?, ?, ?)"] * len(part)))
                        added.update(
                            key for (key,) in self._connection.execute(insert, list(chain.from_iterable(part)))
                        )
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error
            self._waiting += len(added)
        return added

    def oldest(self, limit: int) -> list[Entry]:
        """The entries that wait longest, in the order in which they came."""
        with self._lock:
            try:
                found = self._connection.execute(
                    "SELECT key, row, model, probability, reward FROM entry ORDER BY position LIMIT ?", (limit,)
                ).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error
        return [Entry(*row) for row in found]

    def remove(self, entries: Sequence[Entry]) -> None:
        """Let go of entries that the memory holds now."""
        with self._lock:
            try:
                with self._connection:
                    before = self._connection.total_changes
                    self._connection.executemany("DELETE FROM entry WHERE key = ?", [(entry.key,) for entry in entries])
                    self._waiting -= self._connection.total_changes - before
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    def _translated(self, error: sqlite3.DatabaseError) -> StoreError:
        if "full" in str(error):
            return StoreFullError(
                f"no space left for the journal {self.path}; free some: until then nothing is acknowledged"
            )
        if isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError):
            return StoreError(f"the journal {self.path} failed: {error}")
        return CorruptStoreError(
            f"the journal {self.path} cannot be read ({error}); move it aside: what it held goes with it"
        )
