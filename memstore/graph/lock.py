"""Ownership of a folder by one process: an `flock`ed file.

The kernel releases the lock when the process ends, however it ends. The file's text (pid and start time) only names
the owner. A second lock in the same process is refused too, also on network file systems, where the kernel grants a
process the same lock twice. Forked children share the lock, which ends with the last of them.

A folder that cannot be written to, as on a read-only mount, can be shared by processes that only read. They hold a
shared lock, which excludes an owner that can write to the folder by another path.
"""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import os
from pathlib import Path

from memstore.errors import LocationError, LockedError, ReadOnlyError

FILE = "owner.lock"
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)

_held: dict[Path, int] = {}


class OwnerLock:
    """Exclusive ownership of a folder until `release`.

    Attributes:
        read_only: why the folder cannot be written to; None for an owner that may write.
    """

    def __init__(self, folder: Path, *, may_share: bool = False) -> None:
        """Take the lock.

        Args:
            may_share: share a folder that cannot be written to with other readers, instead of refusing it.

        Raises:
            LockedError: the folder has an owner; `pid` is its process, if known.
            LocationError: the folder cannot be written to, or its file system has no locks.
        """
        self._folder = folder.resolve()
        self.read_only: str | None = None
        self._released = False
        if _held.get(self._folder) == os.getpid():
            raise LockedError(
                f"the memory in {folder} is open in this process already (pid {os.getpid()}); "
                "use that one, or close it first",
                os.getpid(),
            )
        try:
            self._file: int | None = os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            if not may_share or error.errno not in _UNWRITABLE:
                raise _unwritable(folder, error) from error
            self.read_only = str(error.strerror)
            self._file = _open_to_read(folder, error)
        self._take(folder)
        _held[self._folder] = os.getpid()
        if self.read_only is not None:
            return
        try:
            self._sign()
        except OSError as error:
            self.release()
            raise _unwritable(folder, error) from error

    def _take(self, folder: Path) -> None:
        if self._file is None:
            return
        try:
            fcntl.flock(self._file, (fcntl.LOCK_EX if self.read_only is None else fcntl.LOCK_SH) | fcntl.LOCK_NB)
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

    def check_writable(self) -> None:
        """Refuse a write to a folder that is only read.

        Raises:
            ReadOnlyError: the folder cannot be written to.
        """
        if self.read_only is not None:
            raise ReadOnlyError(
                f"{self._folder} cannot be written to ({self.read_only}), so this memory is only read; copy the memory "
                "to a folder that can be written to"
            )

    def _sign(self) -> None:
        assert self._file is not None
        now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {now}\n".encode("ascii"), 0)

    def release(self) -> None:
        """Release the lock; calling it again does nothing."""
        if self._released:
            return
        self._released = True
        if self._file is not None:
            os.close(self._file)
        del _held[self._folder]


def _open_to_read(folder: Path, refusal: OSError) -> int | None:
    """The lock file of a folder that cannot be written to; None if it has none, because nobody opened it yet."""
    try:
        return os.open(folder / FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        raise _unwritable(folder, refusal) from refusal


def _unwritable(folder: Path, error: OSError) -> LocationError:
    return LocationError(f"{folder} cannot be written to ({error.strerror}); make it writable, or name another folder")


def _taken(folder: Path, signature: str) -> LockedError:
    pid, _, since = signature.strip().partition(" ")
    who = f"process {pid} (since {since})" if pid.isdigit() else "another process"
    return LockedError(
        f"the memory in {folder} is owned by {who}; use its service (memstore serve), read a snapshot, "
        "or try again when it has ended",
        int(pid) if pid.isdigit() else None,
    )
