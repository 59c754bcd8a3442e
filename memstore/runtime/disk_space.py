"""Errors that mean that no space is left: a full disk, a quota, or a limit on the size of files."""

from __future__ import annotations

import errno
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from memstore.errors import MemstoreError, StoreFullError

_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MESSAGES = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|database or disk is full"
    rf"|os error (?:{'|'.join(str(code) for code in sorted(_ERRNOS))})\b"
)
"""What libraries write that have no error number, such as safetensors and `shutil.copytree`."""
_SQLITE_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE})
"""SQLite reports a quota, a limit on the size of files, and a full disk where it opens a file, as a failed write."""


def is_full(error: BaseException) -> bool:
    """Whether an error of the operating system, or of a library that passes it on, means that no space is left."""
    if isinstance(error, MemstoreError):
        return isinstance(error, StoreFullError)
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _ERRNOS
    if getattr(error, "sqlite_errorcode", None) in _SQLITE_CODES:
        return True
    return bool(_MESSAGES.search(str(error)))


@contextmanager
def space_errors(message: str) -> Iterator[None]:
    """Raise `StoreFullError` with this message in place of another error that means that no space is left."""
    try:
        yield
    except StoreFullError:
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise StoreFullError(message) from error
