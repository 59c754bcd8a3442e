"""The database of one folder: opening, transactions, what happens when the disk is full, repair.

Facts about LadybugDB 0.22 that this module rests on, each found by trying and held by a test:

- A COPY is not in the write-ahead log: it is durable only once the checkpoint that COMMIT starts has ended, and a
  crash in that checkpoint keeps the rest of the transaction without it. Nothing here uses COPY; LOAD FROM ...
  CREATE is logged, as fast, and does not rewrite the last node group with each block.
- A connection keeps the Arrow tables that were passed to it: each call has its own connection.
- Closing a database checkpoints, and a checkpoint that fails there ends the process: that is switched off, and
  `close` checkpoints where an error can still be caught.
- A log whose last record is cut short is refused at the next opening. After a full disk it is cut back to the last
  commit, with the database closed; after a kill, when it is next opened (`tail`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ladybug

from memstore.errors import CorruptStoreError, LocationError, MemstoreError, SchemaError, StoreError, StoreFullError
from memstore.graph.ladybug import errors
from memstore.graph.ladybug.wal_recovery import LogTail
from memstore.graph.lock import FILE as LOCK_FILE
from memstore.graph.lock import OwnerLock

logger = logging.getLogger(__name__)

FILE = "graph.lbdb"
QUARANTINE = "quarantine"
CHECKPOINT_BYTES = 256 * 2**20
"""The log is folded into the file when it is this long; replaying so much took 4 s on two cores."""
MAX_BYTES = 2**40
"""Address space reserved for the file: a TiB. The default of 8 TiB does not fit everywhere."""
_MAGIC = b"LBUG"


class Database:
    """An open database that this process owns."""

    def __init__(self, folder: Path, *, create: bool, buffer_pool_bytes: int) -> None:
        """Open it; see `LadybugGraph.open`."""
        self.folder = folder
        _check_folder(folder, create)
        self._lock = OwnerLock(folder)
        self._tail = LogTail(folder / FILE)
        try:
            _check_storage_version(folder / FILE)
            self._database = self._tail.open(lambda: _open(folder, buffer_pool_bytes))
            self._tail.note_whole()
        except BaseException:
            self._lock.release()
            raise
        self._failure: MemstoreError | None = None
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection of one's own; errors leave it translated."""
        connection = self.connect()
        try:
            yield connection
        except RuntimeError as error:
            raise errors.while_working(error, self.folder) from error
        finally:
            connection.close()

    def connect(self) -> Any:
        """A connection that the caller closes."""
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))
        if self._database is None:
            raise StoreError(f"the graph in {self.folder} is closed; open it again")
        connection = ladybug.Connection(self._database)
        self._connections.add(connection)
        return connection

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """A connection inside a write transaction: all that is done is kept, or nothing."""
        connection = self.connect()
        log_bytes = self._tail.note_whole()
        try:
            connection.execute("BEGIN TRANSACTION")
            yield connection
            connection.execute("COMMIT")
            self._tail.note_whole()
        except BaseException as error:
            _roll_back(connection)
            if isinstance(error, RuntimeError):
                raise self._failed(error, log_bytes) from error
            raise
        finally:
            connection.close()

    def wrote(self) -> None:
        """A statement outside of `transaction` has written, and has ended."""
        self._tail.note_whole()

    def checkpoint(self) -> None:
        """Fold the log into the file."""
        connection = self.connect()
        try:
            connection.execute("CHECKPOINT")
            self._tail.note_whole()
        except RuntimeError as error:
            raise self._failed(error, None) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Checkpoint, let go of the file and of the lock; without space for the former, the log is left as it is."""
        try:
            if self._database is not None and self._tail.bytes():
                self.checkpoint()
        except StoreFullError:
            logger.warning("no space to fold the log of the graph in %s into its file; nothing is lost", self.folder)
        finally:
            self._let_go()
            self._lock.release()

    def _failed(self, error: RuntimeError, log_bytes: int | None) -> MemstoreError:
        """What to raise; after a full disk the database is closed, since its log may end in half a record.

        Args:
            log_bytes: length of the log before the transaction; None where it was a checkpoint that failed. That
                leaves a whole log, which the next opening replays: it is not to be cut.
        """
        if not errors.is_full(error) and not errors.could_not_grow(error):
            return errors.while_working(error, self.folder)
        self._let_go()
        undone = log_bytes is not None and "post-commit checkpoint failed" not in str(error)
        self._failure = errors.full(self.folder, undone=undone)
        if log_bytes is not None and undone and self._tail.bytes() > log_bytes:
            os.truncate(self._tail.log, log_bytes)
        return self._failure

    def _let_go(self) -> None:
        """Close the database after all that would outlive it."""
        if self._database is not None:
            for connection in list(self._connections):
                connection.close()
            self._database.close()
            self._database = None


def repair(folder: Path, buffer_pool_bytes: int) -> str | None:
    """Mend a database whose log is torn; return what was done, None where it opens as it is.

    The log is copied to `quarantine/` and replayed up to its first broken record.

    Raises:
        CorruptStoreError: the file itself is broken, which only a snapshot mends.
    """
    _check_folder(folder, create=False)
    lock = OwnerLock(folder)
    try:
        try:
            _open(folder, buffer_pool_bytes).close()
            return None
        except CorruptStoreError:
            pass
        kept = _quarantine(folder)
        size = kept.stat().st_size
        try:
            database = _open(folder, buffer_pool_bytes, throw_on_wal_replay_failure=False)
            connection = ladybug.Connection(database)
            connection.execute("CHECKPOINT")
            connection.close()
            database.close()
        except (CorruptStoreError, RuntimeError) as error:
            raise CorruptStoreError(
                f"the graph in {folder} is broken beyond its log ({errors.one_line(error)}); restore a snapshot: "
                "memstore restore"
            ) from error
    finally:
        lock.release()
    return (
        f"the write-ahead log of the graph ({size} bytes) was torn: what stood before the tear is in the graph, what "
        f"came after is lost (the log is kept as {kept}); ingest the last files again"
    )


def _quarantine(folder: Path) -> Path:
    log = LogTail(folder / FILE).log
    if not log.exists():
        raise CorruptStoreError(
            f"the graph in {folder} is broken and has no log to mend; restore a snapshot: memstore restore"
        )
    (folder / QUARANTINE).mkdir(exist_ok=True)
    kept = folder / QUARANTINE / f"{log.name}.{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}"
    shutil.copy2(log, kept)
    return kept


def _open(folder: Path, buffer_pool_bytes: int, **options: bool) -> Any:
    try:
        database = ladybug.Database(
            folder / FILE,
            buffer_pool_size=min(buffer_pool_bytes, _half_of_memory()),
            max_db_size=MAX_BYTES,
            checkpoint_threshold=CHECKPOINT_BYTES,
            **options,
        )
        connection = ladybug.Connection(database)
        connection.execute("CALL force_checkpoint_on_close=false")
        connection.close()
    except (RuntimeError, MemoryError) as error:
        raise errors.while_opening(error, folder) from error
    return database


def _check_folder(folder: Path, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise LocationError(f"{folder} is a file; name the folder of a memory's graph")
    if (folder / FILE).is_file():
        return
    if not create:
        raise LocationError(f"there is no graph in {folder} (no file {FILE}); make one by ingesting, or name another")
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} - {LOCK_FILE}:
        raise LocationError(f"{folder} holds something else than a graph; name an empty folder or a new one")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise LocationError(f"{folder} cannot be made; choose a folder you may write to") from error


def _check_storage_version(file: Path) -> None:
    """Compare the version in the file's first bytes (magic, then a little-endian integer) with the library's."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        head = stream.read(12)
    if not head:  # made and never written: the process ended before the first statement
        return
    if len(head) < 12 or not head.startswith(_MAGIC):
        raise CorruptStoreError(f"{file} is no file of LadybugDB (any more); restore a snapshot: memstore restore")
    found, known = int.from_bytes(head[4:12], "little"), int(ladybug.Database.get_storage_version())
    if found != known:
        raise SchemaError(
            f"{file} has storage version {found} and the installed ladybug {ladybug.__version__} reads {known}; "
            "run memstore snapshot with the version that wrote it, then memstore restore with this one"
        )


def _roll_back(connection: Any) -> None:
    """Undo what the transaction did; an error has often ended it already."""
    try:
        connection.execute("ROLLBACK")
    except RuntimeError as error:
        if "No active transaction" not in str(error):
            raise


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
