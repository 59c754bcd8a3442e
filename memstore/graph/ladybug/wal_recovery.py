"""Recovery of a write-ahead log truncated by a crash.

LadybugDB refuses a log that ends in a partial record, which a process killed during a long write can leave. The owner
therefore records the length of the log whenever it is intact, before and after each write. Bytes beyond that length
belong to a call that never returned. If the log is refused, it is cut back to the recorded length, and the rest must
open as it is; a log that is damaged earlier is restored.

The record covers killed processes. After a power cut it may be older than the log, and calls that returned before the
disk was synchronised may be cut off.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from memstore.runtime.disk_space import is_full

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened")
_DIGITS = 20


class WriteAheadLog:
    """The log of one database file, and the record of its intact length beside it."""

    def __init__(self, file: Path) -> None:
        """Nothing is read or written yet. The caller owns the database."""
        self.log = file.with_name(f"{file.name}.wal")
        self._record = file.with_name(f"{file.name}.wal.whole")
        self._damaged = file.with_name(f"{file.name}.wal.torn")

    def bytes(self) -> int:
        """Length of the log in bytes."""
        return self.log.stat().st_size if self.log.exists() else 0

    def record_length(self) -> int:
        """Record that the log is intact at its present length, and return it. The write is too short to be split.

        Without space on the disk there is no record, and a truncated log is refused instead of cut.
        """
        size = self.bytes()
        try:
            note = os.open(self._record, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.pwrite(note, f"{size:0{_DIGITS}}".encode(), 0)
            finally:
                os.close(note)
        except OSError as error:
            if not is_full(error):
                raise
            logger.warning("no space to record the length of %s", self.log)
            self._record.unlink(missing_ok=True)
        return size

    def open(self, attempt: Callable[[], Opened], opens_in_a_child: Callable[[], bool]) -> Opened:
        """Call `attempt`; if the log has a truncated end, cut it off and call again.

        Args:
            attempt: opens the database in this process.
            opens_in_a_child: whether a child process can open it. LadybugDB may end the process on a truncated log,
                so a log that is longer than recorded is tried there first.

        Raises:
            CorruptStoreError: more than the end is damaged; the log is unchanged.
        """
        whole = self._recorded_length()
        if whole is not None and self.bytes() > whole and not opens_in_a_child():
            opened = self._open_without_end(attempt, whole)
        else:
            opened = attempt()
        self._damaged.unlink(missing_ok=True)
        return opened

    def _open_without_end(self, attempt: Callable[[], Opened], whole: int) -> Opened:
        size = self.bytes()
        shutil.copy2(self.log, self._damaged)
        os.truncate(self.log, whole)
        try:
            opened = attempt()
        except BaseException:
            os.replace(self._damaged, self.log)
            raise
        logger.info("cut off %d bytes of an interrupted write in %s", size - whole, self.log)
        return opened

    def _recorded_length(self) -> int | None:
        """The recorded length; None without a complete record."""
        if not self._record.exists():
            return None
        text = self._record.read_bytes()
        return int(text) if len(text) == _DIGITS and text.isdigit() else None
