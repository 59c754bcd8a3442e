"""Errors of LadybugDB as store errors, classified by message.

LadybugDB raises RuntimeError for everything. The texts were collected by provoking each failure on the pinned version;
an unknown one becomes a StoreError with LadybugDB's message.
"""

from __future__ import annotations

import re
from pathlib import Path

from memstore.errors import CorruptStoreError, InputError, LockedError, MemstoreError, StoreError, StoreFullError

_FULL = re.compile(r"No space left on device|File too large|Disk quota exceeded|Cannot write to file")
_NOT_GROWN = re.compile(r"Cannot read from file.*numBytesRead: 0 ")
_NOT_SPACE = re.compile(r"Input/output error|Permission denied|Read-only file system|Bad file descriptor")
_NOT_DAMAGE = re.compile(r"Buffer manager exception|[Mm]map|max_db_size|Cannot open file|Could not set lock")
"""Reasons other than damage for which a database with a log does not open."""
_CORRUPT = re.compile(
    r"Checksum verification failed|WAL file is corrupted|Cannot read checkpoint|not a valid Lbug database"
    r"|Reading past the end of the file|std::bad_alloc|Failed to deserialize|vector::_M|basic_string::"
    r"|database file may be corrupted|[Ss]hadow file|committed checkpoint|Data corruption"
)
_LOCKED = re.compile(r"Could not set lock on file.*?(?:PID (\d+))?\)", re.DOTALL)
_MISSING = re.compile(r"Unable to find primary key value ([^.]+)\.")


def one_line(error: BaseException | str) -> str:
    """LadybugDB's message as one sentence, without the exception name and the marked query below it."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"^\w+ exception: ", "", line).rstrip(". ")


def is_full(error: BaseException) -> bool:
    """Whether a write failed for lack of space, a quota or a file size limit."""
    return bool(_FULL.search(str(error))) and not _NOT_SPACE.search(str(error))


def could_not_grow(error: BaseException) -> bool:
    """Whether a page that was just written is missing: under a size limit the file stops growing without an error."""
    return bool(_NOT_GROWN.search(str(error)))


def while_opening(error: BaseException, folder: Path) -> MemstoreError:
    """The store error for a failure to open the database in `folder`.

    The replay of a damaged log fails with any of some fifty messages, and with assertions. Where there is a log, an
    unknown message therefore counts as damage.
    """
    text = str(error)
    if is_full(error):
        return full(folder)
    if found := _LOCKED.search(text):
        pid = int(found[1]) if found[1] else None
        return LockedError(f"the graph in {folder} is owned by process {pid}; try again when it has ended", pid)
    if _CORRUPT.search(text) or (_has_log(folder) and not _NOT_SPACE.search(text) and not _NOT_DAMAGE.search(text)):
        return CorruptStoreError(
            f"the graph in {folder} does not open ({one_line(error)}); run: memstore verify --repair"
        )
    return StoreError(f"the graph in {folder} cannot be opened: {one_line(error)}")


def _has_log(folder: Path) -> bool:
    return any(log.stat().st_size > 0 for log in folder.glob("*.wal"))


def while_working(error: BaseException, folder: Path) -> MemstoreError:
    """The store error for a failed statement of memstore."""
    text = str(error)
    if is_full(error):
        return full(folder)
    if found := _MISSING.search(text):
        return InputError(f"{found[1]} is not in the graph; write the node before its edges")
    if "Buffer manager exception" in text:
        return StoreError(
            f"the graph in {folder} needs more memory than its buffer pool has; open it with a larger buffer_pool_bytes"
        )
    return StoreError(f"the graph in {folder} failed: {one_line(error)}")


def full(folder: Path, *, undone: bool = True) -> StoreFullError:
    """The error for a full disk: the last write was undone, or is in the log if only the checkpoint failed."""
    outcome = "the last write was undone" if undone else "the last write is safe in its log"
    return StoreFullError(
        f"no space left to write the graph in {folder}, and {outcome}; "
        "free some and run the same command again, which continues where this one stopped"
    )
