"""The output file of rollouts and journal of the run: one record a line, in the format of `memstore ingest`.

Lines are only appended. A line that ends in a newline is committed. A process killed in the middle of a line leaves a
partial last line, which is truncated when the file is next opened. The keys of the lines therefore list what is done,
whenever the run ended. A file has one writer at a time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from memstore.errors import InputError, LockedError, StoreError, StoreFullError

KEY = "rollout_key"
"""Metadata entry that holds the key of a row's sample."""
_LINE_START = b'{"query": '
"""Start of every line that this module writes; a last line that starts differently is not treated as a partial line."""
_IS_KEY = re.compile("[0-9a-f]{16}")
_SYNC_INTERVAL_S = 1.0
"""Seconds between two fsyncs: the most that a power failure can lose. A kill loses nothing."""


class RolloutFile:
    """A file of rollouts, opened for appending. Use it as a context manager, or call `close`."""

    def __init__(self, path: Path) -> None:
        """Open or create the file, truncate a partial last line, and read the keys of the existing rows.

        Raises:
            InputError: the file holds something else, or cannot be opened.
            LockedError: another process writes the file.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; choose another --output") from error
        try:
            self._lock()
            self._keys = self._read_keys()
        except BaseException:
            self._file.close()
            raise
        self._last_sync = time.monotonic()

    def __len__(self) -> int:
        """Number of samples that the file held when it was opened."""
        return len(self._keys)

    def missing(self, keys: Sequence[str]) -> list[bool]:
        """For each key, whether the file lacked it when it was opened."""
        wanted = np.array([int(key, 16) for key in keys], np.uint64)
        positions = np.searchsorted(self._keys, wanted)
        found = positions < len(self._keys)
        found[found] = self._keys[positions[found]] == wanted[found]
        return [not present for present in found.tolist()]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows; once this returns, killing the process does not lose them.

        Raises:
            StoreFullError: no space left; none of the rows was added.
            StoreError: the file cannot be written any more.
        """
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            if time.monotonic() - self._last_sync >= _SYNC_INTERVAL_S:
                os.fsync(self._file.fileno())
                self._last_sync = time.monotonic()
        except OSError as error:
            os.ftruncate(self._file.fileno(), self.size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFullError(
                    f"no space left for {self.path}; free some space and run the same command again to resume"
                ) from error
            raise StoreError(f"cannot write {self.path}: {error.strerror}") from error
        self.size += len(data)

    def close(self) -> None:
        """Sync and close the file; calling it again does nothing."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(
                f"another process is writing {self.path}; wait for it, or choose another --output"
            ) from error

    def _read_keys(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The keys of the complete lines, sorted, uint64; truncate the file after the last complete line."""
        keys = array("Q")
        self.size = 0
        self._file.seek(0)
        with open(self.path, "rb") as lines:
            for line in lines:
                row = _parse_row(line)
                if row is None and (self.size == 0 or not line.endswith(b"\n")):
                    self._check_partial(line)
                    break
                key = _key_of(row or {})
                if key is not None:
                    keys.append(key)
                self.size += len(line)
        self._truncate()
        return np.unique(np.frombuffer(keys, np.uint64))

    def _check_partial(self, line: bytes) -> None:
        if not (line.startswith(_LINE_START) or _LINE_START.startswith(line)):
            raise InputError(
                f"{self.path} is not a file of rollouts (it contains {line[:40].decode('utf-8', 'replace')!r}); "
                "choose another --output"
            )

    def _truncate(self) -> None:
        """Cut off a partial last line; add the newline to a last line that only lacks it."""
        os.ftruncate(self._file.fileno(), self.size)
        if self.size and os.pread(self._file.fileno(), 1, self.size - 1) != b"\n":
            self.size += self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _key_of(row: Mapping[str, Any]) -> int | None:
    """The key of a row; None for a row that `memstore rollout` did not write."""
    metadata = row.get("metadata")
    key = metadata.get(KEY) if isinstance(metadata, dict) else None
    return int(key, 16) if isinstance(key, str) and _IS_KEY.fullmatch(key) else None


def _parse_row(line: bytes) -> dict[str, Any] | None:
    """The JSON object on a line; None if the line holds none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
