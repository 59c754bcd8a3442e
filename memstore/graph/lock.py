"""Ownership of a folder by one process: an `flock`ed file.

The kernel releases the lock when the process ends, however it ends. The file's text (pid and start time) only names
the owner. A second lock in the same process is refused too, also on network file systems, where the kernel grants a
process the same lock twice. Forked children share the lock, which ends with the last of them.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import os
from pathlib import Path

from memstore.errors import LocationError, LockedError

FILE = "owner.lock"

_held: dict[Path, int] = {}


class OwnerLock:
    """Exclusive ownership of a folder until `release`."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            LockedError: the folder has an owner; `pid` is its process, if known.
        """
        self._folder = folder.resolve()
        if _held.get(self._folder) == os.getpid():
            raise LockedError(
                f"the memory in {folder} is open in this process already (pid {os.getpid()}); "
                "use that one, or close it first",
                os.getpid(),
            )
        try:
            self._file: int | None = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            signature = os.pread(self._file, 200, 0).decode("ascii", "replace")
            os.close(self._file)
            raise _taken(folder, signature) from None
        except OSError as error:
            os.close(self._file)
            raise LocationError(
                f"the file system of {folder} does not support file locks ({error.strerror}), which keep two "
                "processes from writing to one memory; move the memory to a local disk"
            ) from error
        _held[self._folder] = os.getpid()
        try:
            self._sign()
        except OSError as error:
            self.release()
            raise _unwritable(folder, error) from error

    def _sign(self) -> None:
        assert self._file is not None
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {now}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Release the lock; calling it again does nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            del _held[self._folder]


def _unwritable(folder: Path, error: OSError) -> LocationError:
    return LocationError(f"{folder} cannot be written to ({error.strerror}); correct that, or open a snapshot of it")


def _taken(folder: Path, signature: str) -> LockedError:
    pid, _, since = signature.strip().partition(" ")
    who = f"process {pid} (since {since})" if pid.isdigit() else "another process"
    return LockedError(
        f"the memory in {folder} is owned by {who}; use its service (memstore serve), read a snapshot, "
        "or try again when it has ended",
        int(pid) if pid.isdigit() else None,
    )
