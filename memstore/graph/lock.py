"""One owner at a time: an `flock`ed file in the folder of an embedded memory.

The lock is the kernel's, so it ends with the process, however that ends. The file's text (pid, start) only says
whose it is. A second store in the same process is refused too, also on network file systems, where the kernel
grants a process the same lock twice. Forked children share the lock: it ends with the last of them.
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
    """The right to use a folder; `release` gives it back, and doing so again does nothing."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            LockedError: somebody has it; `pid` says who, where that is known.
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
        except PermissionError as error:
            raise LocationError(
                f"{folder} cannot be written to; change its rights, or open a snapshot of it"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            signature = os.pread(self._file, 200, 0).decode("ascii", "replace")
            os.close(self._file)
            raise _taken(folder, signature) from None
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
        """Give the lock back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            del _held[self._folder]


def _unwritable(folder: Path, error: OSError) -> LocationError:
    return LocationError(f"{folder} cannot be written to ({error.strerror}); mend that, or open a snapshot of it")


def _taken(folder: Path, signature: str) -> LockedError:
    pid, _, since = signature.strip().partition(" ")
    who = f"process {pid} (since {since})" if pid.isdigit() else "another process"
    return LockedError(
        f"the memory in {folder} is owned by {who}; ask that one (memstore serve), read a snapshot, "
        "or try again when it has ended",
        int(pid) if pid.isdigit() else None,
    )
