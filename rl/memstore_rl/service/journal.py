"""Durable queue of scored rollouts that are acknowledged but not in the memory yet.

The queue is one SQLite file in write-ahead mode. `append` returns once the entries are on disk, so a response sent
after it survives a crash. `remove` deletes an entry after the memory holds it. After a crash in between, the entry is
written again; ids are derived from content, so the memory recognizes the duplicate.

Each entry has a key that identifies its rollout, and a second entry with the same key is ignored. A request that is
retried because its response was lost adds nothing.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from memstore.errors import CorruptStoreError, StoreError, StoreFullError
from memstore.runtime.disk_space import is_full

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    row TEXT NOT NULL,
    model TEXT,
    probability REAL,
    reward REAL,
    source TEXT
)
"""
_ADD_SOURCE = "ALTER TABLE entry ADD COLUMN source TEXT"
"""For a journal of memstore 0.1.0."""
_INSERT = "INSERT OR IGNORE INTO entry (key, row, model, probability, reward, source) VALUES {} RETURNING key, position"
_COUNT = "SELECT count(*), coalesce(max(position), 0) FROM entry"
_OLDEST = "SELECT key, row, model, probability, reward, source FROM entry WHERE position <= ? ORDER BY position LIMIT ?"
_ROWS = 256
"""Entries per INSERT. Each statement releases the GIL and then waits for it while another thread scores."""
_BUSY_SECONDS = 30.0


class Entry(NamedTuple):
    """One scored rollout."""

    key: str
    row: str
    """The rollout as an input row: a JSON object."""
    model: str | None
    """Id of the reward model in use; None for ground truth, or without a model."""
    probability: float | None
    reward: float | None
    source: str | None = None
    """`predicted` or `remembered`; None for ground truth, and in entries of memstore 0.1.0."""


class Journal:
    """The queue on disk. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Open the queue, creating the file if it does not exist.

        Raises:
            CorruptStoreError: the file is not a journal.
            StoreError: it cannot be opened.
        """
        self.path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # It holds gold answers and rollouts. SQLite gives its side files the same permissions.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            path.chmod(0o600)
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            with self._connection:
                self._connection.execute(_SCHEMA)
                if "source" not in (column[1] for column in self._connection.execute("PRAGMA table_info(entry)")):
                    self._connection.execute(_ADD_SOURCE)
            waiting, last = self._connection.execute(
                "SELECT count(*), coalesce(max(position), 0) FROM entry"
            ).fetchone()
            self._waiting, self._last = int(waiting), int(last)
            self._held_after: int | None = None
        except sqlite3.DatabaseError as error:
            raise self._translated(error) from error
        except OSError as error:
            raise StoreError(f"the journal {path} cannot be created: {error.strerror}") from error

    def __len__(self) -> int:
        """Return the number of entries."""
        return self._waiting

    def hold(self) -> None:
        """Let the entries that come from now on wait: `oldest` returns none of them until `release`."""
        self._held_after = self._last

    def release(self) -> None:
        """End a `hold`."""
        self._held_after = None

    def append(self, entries: Sequence[Entry]) -> set[str]:
        """Write entries to disk and return the keys of the new ones.

        Raises:
            StoreFullError: the disk is full; no entry was written.
        """
        added: dict[str, int] = {}
        with self._lock:
            try:
                with self._connection:
                    for start in range(0, len(entries), _ROWS):
                        part = entries[start : start + _ROWS]
                        insert = _INSERT.format(", ".join(["(?, ?, ?, ?, ?, ?)"] * len(part)))
                        added.update(self._connection.execute(insert, list(chain.from_iterable(part))))
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error
            self._waiting += len(added)
            self._last = max(self._last, *added.values()) if added else self._last
        return set(added)

    def oldest(self, limit: int) -> list[Entry]:
        """Return the oldest entries that no `hold` lets wait, in order of arrival."""
        with self._lock:
            held_after = self._held_after  # read under the lock, so that no later entry is among those selected
            try:
                found = self._connection.execute(
                    _OLDEST, (self._last if held_after is None else held_after, limit)
                ).fetchall()
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error
        return [Entry(*row) for row in found]

    def remove(self, entries: Sequence[Entry]) -> None:
        """Delete entries that the memory now holds."""
        with self._lock:
            try:
                with self._connection:
                    before = self._connection.total_changes
                    self._connection.executemany("DELETE FROM entry WHERE key = ?", [(entry.key,) for entry in entries])
                    self._waiting -= self._connection.total_changes - before
            except sqlite3.DatabaseError as error:
                raise self._translated(error) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _translated(self, error: sqlite3.DatabaseError) -> StoreError:
        if is_full(error):
            return StoreFullError(
                f"no space left for the journal {self.path}; free disk space: until then the service accepts nothing"
            )
        if isinstance(error, sqlite3.OperationalError | sqlite3.ProgrammingError):
            return StoreError(f"the journal {self.path} failed: {error}")
        return CorruptStoreError(
            f"the journal {self.path} cannot be read ({error}); move it away to start an empty one without its entries"
        )
