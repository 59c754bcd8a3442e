"""The end of the write-ahead log: what a process that is killed in the middle of writing leaves behind.

LadybugDB refuses a log that ends in half a record, and a kill can leave one: a long write is cut between two pages.
So the owner notes how long the log is whenever all of it is whole, before and after each write. What stands behind
that length belongs to a call that never returned, and was promised to nobody: where the log is refused, it is cut back
to the length that was noted, and what is left has to open as it is. A log that is broken further up is put back.

The note is for processes that die. After a power cut it may be older than the log; then calls that had returned may be
among what is cut off, no more of them than the disk had not been told of.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from memstore.errors import CorruptStoreError

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened")
_DIGITS = 20


class LogTail:
    """The log of one database file, and the note beside it."""

    def __init__(self, file: Path) -> None:
        """Nothing is read or written yet; the caller owns the database."""
        self.log = file.with_name(f"{file.name}.wal")
        self._note = file.with_name(f"{file.name}.wal.whole")
        self._torn = file.with_name(f"{file.name}.wal.torn")

    def bytes(self) -> int:
        """Length of the log."""
        return self.log.stat().st_size if self.log.exists() else 0

    def note_whole(self) -> int:
        """Note that all of the log is whole as it is now; its length. One write of few bytes, which no kill divides.

        Where the disk has no room for that there is no note, and a torn log is refused instead of cut.
        """
        size = self.bytes()
        try:
            note = os.open(self._note, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(note, f"{size:0{_DIGITS}}".encode(), 0)
            finally:
                os.close(note)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            logger.warning("no space to note the length of %s", self.log)
            self._note.unlink(missing_ok=True)
        return size

    def open(self, attempt: Callable[[], Opened]) -> Opened:
        """What `attempt` opens, after a torn end was cut off where that is what keeps it from opening.

        Raises:
            CorruptStoreError: more than the end is broken; the log is as it was.
        """
        try:
            opened = attempt()
        except CorruptStoreError:
            whole = self._noted()
            if whole is None or self.bytes() <= whole:
                raise
            opened = self._open_without_end(attempt, whole)
        self._torn.unlink(missing_ok=True)
        return opened

    def _open_without_end(self, attempt: Callable[[], Opened], whole: int) -> Opened:
        size = self.bytes()
        shutil.copy2(self.log, self._torn)
        os.truncate(self.log, whole)
        try:
            opened = attempt()
        except BaseException:
            os.replace(self._torn, self.log)
            raise
        logger.info("a write that was killed left %d bytes in %s; they were cut off", size - whole, self.log)
        return opened

    def _noted(self) -> int | None:
        """The length that was noted; None where there is no note, or half of one."""
        if not self._note.exists():
            return None
        text = self._note.read_bytes()
        return int(text) if len(text) == _DIGITS and text.isdigit() else None
