"""The file of rollouts: the journal of a run and its result, one record a line, as `memstore ingest` takes them.

A line that is whole was acknowledged and stays; lines are only ever added. A process that dies in the middle of a line
leaves a torn one, which the next to open the file takes off. So the keys of the lines are what was done, whatever
instant a run ended at, and a file has one writer at a time.
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
"""Where a row's metadata holds the key of its sample."""
_BEGIN = b'{"query": '
"""How every line of ours begins: what does not begin so is not taken for a torn line."""
_IS_KEY = re.compile("[0-9a-f]{16}")
_SYNC_S = 1.0
"""Seconds between two waits for the disk: what a power cut may take, where a kill takes nothing."""


class RolloutFile:
    """The file, opened to be added to."""

    def __init__(self, path: Path) -> None:
        """Open the file, made if it is not there; take off a torn line, and read what was done.

        Raises:
            InputError: it holds something else, or cannot be opened.
            LockedError: another process writes it.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = open(path, "a+b", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror}; name another --output") from error
        try:
            self._lock()
            self._keys = self._read_keys()
        except BaseException:
            self._file.close()
            raise
        self._synced = time.monotonic()

    def __len__(self) -> int:
        """Samples that were in the file when it was opened."""
        return len(self._keys)

    def lacks(self, keys: Sequence[str]) -> list[bool]:
        """For each key: was it not in the file when it was opened?"""
        wanted = np.array([int(key, 16) for key in keys], np.uint64)
        places = np.searchsorted(self._keys, wanted)
        found = places < len(self._keys)
        found[found] = self._keys[places[found]] == wanted[found]
        return [not there for there in found.tolist()]

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; when this returns, a kill of the process does not take them.

        Raises:
            StoreFullError: no space left; none of them was added.
            StoreError: the file cannot be written any more.
        """
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
            if time.monotonic() - self._synced >= _SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            os.ftruncate(self._file.fileno(), self.size)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StoreFullError(
                    f"no space left for {self.path}; free some and run the same command again: what was done is kept"
                ) from error
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error
        self.size += len(data)

    def close(self) -> None:
        """Wait for the disk and let go of the file; calling it again does nothing."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"another process writes {self.path}; wait for it, or name another --output") from error

    def _read_keys(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """The keys of the whole lines, sorted: eight bytes each. What stands behind the last of them goes."""
        keys = array("Q")
        self.size = 0
        self._file.seek(0)
        with open(self.path, "rb") as lines:
            for line in lines:
                row = _object(line)
                if row is None and (self.size == 0 or not line.endswith(b"\n")):
                    self._check_torn(line)
                    break
                key = _key_of(row or {})
                if key is not None:
                    keys.append(key)
                self.size += len(line)
        self._end_line()
        return np.unique(np.frombuffer(keys, np.uint64))

    def _check_torn(self, line: bytes) -> None:
        if not (line.startswith(_BEGIN) or _BEGIN.startswith(line)):
            raise InputError(
                f"{self.path} holds something that is no rollout ({line[:40].decode('utf-8', 'replace')!r}); name "
                "another --output"
            )

    def _end_line(self) -> None:
        """Take off what is torn, and end a last line that only lacks its end."""
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
    """The key of a row; None where it is not one of ours."""
    metadata = row.get("metadata")
    key = metadata.get(KEY) if isinstance(metadata, dict) else None
    return int(key, 16) if isinstance(key, str) and _IS_KEY.fullmatch(key) else None


def _object(line: bytes) -> dict[str, Any] | None:
    """The row of a line; None where it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
