"""Database of one folder: opening, transactions, recovery from a full disk, repair.

Facts about LadybugDB 0.22 that this module relies on; a test holds each:

- A COPY is not in the write-ahead log: it is durable only after the checkpoint that COMMIT starts, and a crash during
  that checkpoint keeps the rest of the transaction without it. Nothing here uses COPY; LOAD FROM ... CREATE is logged,
  equally fast, and does not rewrite the last node group with each block.
- A connection keeps the Arrow tables that were passed to it, so each call has its own connection.
- Closing a database checkpoints, and a failing checkpoint ends the process. This is switched off, and `close`
  checkpoints where the error can be caught.
- A rollback writes to the log, and ends the process if that fails (`std::terminate`). So does the destructor of a
  connection with an open transaction.
- A log with a truncated last record is refused at the next opening. After a full disk it is cut back to the last
  commit, with the database closed; after a kill, at the next opening (`wal_recovery`).
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime as dt
import gc
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ladybug

from memstore.errors import CorruptStoreError, LocationError, MemstoreError, SchemaError, StoreError, StoreFullError
from memstore.graph.ladybug import errors
from memstore.graph.ladybug.wal_recovery import WriteAheadLog
from memstore.graph.lock import FILE as LOCK_FILE
from memstore.graph.lock import OwnerLock
from memstore.runtime.disk_space import space_errors

logger = logging.getLogger(__name__)

FILE = "graph.lbdb"
QUARANTINE = "quarantine"
CHECKPOINT_BYTES = 256 * 2**20
"""Length of the log at which it is checkpointed; replaying that much took 4 s on two cores."""
LONG_LOG_BYTES = 2**20
"""Length of the log from which it is checkpointed before a user's query, whose process replays it. Opening a graph with
a log of 1 MiB takes 0.12 s of CPU time, of 4 MiB 0.45 s, with none 0.015 s; the checkpoint takes 0.1 to 0.17 s once."""
MAX_BYTES = 2**40
"""Address space reserved for the file, 1 TiB. The default of 8 TiB is not available everywhere."""
_MAGIC = b"LBUG"


_OPEN = """
import json, os, sys, ladybug
ladybug.Database(sys.argv[1], **json.loads(sys.argv[2]))
os._exit(0)
"""
"""A program that opens a database, and ends without closing it."""


# A destructor of LadybugDB waits for threads, which a forked child does not have. What the garbage collector would find
# in the child is therefore never collected there.
os.register_at_fork(after_in_child=gc.freeze)


class Database:
    """An open database that this process owns, or only reads if its folder cannot be written to."""

    def __init__(self, folder: Path, *, create: bool, buffer_pool_bytes: int) -> None:
        """Open it; see `LadybugGraph.open`."""
        self.folder, self._buffer_pool_bytes = folder, buffer_pool_bytes
        _check_folder(folder, create)
        self._lock = OwnerLock(folder, may_share=not create)
        self._log = WriteAheadLog(folder / FILE)
        try:
            _check_storage_version(folder / FILE)
            if self.read_only:
                self._database = open_database(folder, buffer_pool_bytes, read_only=True)
            else:
                self._database = self._open()
                self._log.record_length()
        except BaseException:
            self._lock.release()
            raise
        self._failure: MemstoreError | None = None
        self._kept_log_bytes = 0
        """Length of a log that there was no space to checkpoint."""
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()

    def _open(self) -> Any:
        folder, size = self.folder, self._buffer_pool_bytes
        return self._log.open(lambda: open_database(folder, size), lambda: _opens_in_a_child(folder, size))

    @property
    def read_only(self) -> bool:
        """Whether the folder cannot be written to."""
        return self._lock.read_only is not None

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A new connection; errors of LadybugDB are raised as store errors."""
        connection = self.connect()
        try:
            yield connection
        except RuntimeError as error:
            raise errors.while_working(error, self.folder) from error
        finally:
            connection.close()

    def connect(self) -> Any:
        """A new connection, which the caller closes."""
        self.check_open()
        connection = ladybug.Connection(self._database)
        self._connections.add(connection)
        return connection

    def check_open(self) -> None:
        """Refuse to use a database that is closed.

        Raises:
            StoreError: it is closed, or was closed by an earlier failure.
        """
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))
        if self._database is None:
            raise StoreError(f"the graph in {self.folder} is closed; open it again")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """A connection inside an atomic write transaction.

        Raises:
            ReadOnlyError: the folder cannot be written to.
        """
        self._lock.check_writable()
        connection = self.connect()
        log_bytes = self._log.record_length()
        try:
            connection.execute("BEGIN TRANSACTION")
            yield connection
            connection.execute("COMMIT")
            self._log.record_length()
        except BaseException as error:
            if errors.is_full(error):
                self._abandon(connection)
            else:
                _roll_back(connection)
            if isinstance(error, RuntimeError):
                raise self._failed(error, log_bytes) from error
            raise
        finally:
            if self._database is not None:
                connection.close()

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Close the database, so that a child process can write to it, and open it again.

        An incomplete write of a child that was killed is cut off.

        Raises:
            ReadOnlyError: the folder cannot be written to.
        """
        self._lock.check_writable()
        self.check_open()
        self._log.record_length()
        self._release()
        try:
            yield
        finally:
            try:
                self._database = self._open()
                self._log.record_length()
            except MemstoreError as error:
                self._failure = error
                raise

    def checkpoint(self) -> None:
        """Write the log into the database file; does nothing if that cannot be written to."""
        if self.read_only:
            return
        connection = self.connect()
        try:
            connection.execute("CHECKPOINT")
            self._log.record_length()
        except RuntimeError as error:
            raise self._failed(error, None) from error
        finally:
            connection.close()

    def has_long_log(self) -> bool:
        """Whether `shorten_log` has something to do."""
        size = self._log.bytes()
        return size >= LONG_LOG_BYTES and size != self._kept_log_bytes

    def shorten_log(self) -> None:
        """Checkpoint a long log before it is replayed, here or in another process.

        Without space on the disk it stays as it is.
        """
        if not self.has_long_log():
            return
        try:
            self.checkpoint()
        except StoreFullError:
            logger.warning("no space to checkpoint the graph in %s; queries stay slower until there is", self.folder)
            self._database = self._open()
            self._failure = None
            self._kept_log_bytes = self._log.record_length()

    def close(self) -> None:
        """Checkpoint and release the file and the lock; the log stays if there is no space for the checkpoint."""
        try:
            if self._database is not None and self._log.bytes():
                self.checkpoint()
        except StoreFullError:
            logger.warning("no space to checkpoint the graph in %s; its log is kept and nothing is lost", self.folder)
        finally:
            self._release()
            self._lock.release()

    def _failed(self, error: RuntimeError, log_bytes: int | None) -> MemstoreError:
        """The error to raise; after a full disk the database is closed, because its log may end in a partial record.

        Args:
            log_bytes: length of the log before the transaction; None if a checkpoint failed, which leaves an intact
                log that the next opening replays.
        """
        if not errors.is_full(error) and not errors.could_not_grow(error):
            return errors.while_working(error, self.folder)
        self._release()
        undone = log_bytes is not None and "post-commit checkpoint failed" not in str(error)
        self._failure = errors.full(self.folder, undone=undone)
        if log_bytes is not None and undone and self._log.bytes() > log_bytes:
            os.truncate(self._log.log, log_bytes)
        return self._failure

    def _abandon(self, connection: Any) -> None:
        """Drop the database without a rollback and without a close, neither of which works without space.

        The objects are kept until the process ends: their destructors would roll back.
        """
        for part in (connection, self._database):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))
        self._database = None

    def _release(self) -> None:
        """Close all connections, then the database."""
        if self._database is not None:
            for connection in list(self._connections):
                connection.close()
            self._database.close()
            self._database = None


def repair(folder: Path, buffer_pool_bytes: int) -> str | None:
    """Recover a database whose write-ahead log is truncated; return what was done, None if it opens as it is.

    The log is copied to `quarantine/` and replayed up to its first damaged record.

    Raises:
        CorruptStoreError: the file itself is damaged; restore a snapshot.
        StoreFullError: there is no space; the log is unchanged.
    """
    _check_folder(folder, create=False)
    lock = OwnerLock(folder)
    try:
        try:
            open_database(folder, buffer_pool_bytes).close()
            return None
        except CorruptStoreError:
            pass
        kept = _quarantine(folder)
        size = kept.stat().st_size
        try:
            database = open_database(folder, buffer_pool_bytes, throw_on_wal_replay_failure=False)
            connection = ladybug.Connection(database)
            connection.execute("CHECKPOINT")
            connection.close()
            database.close()
        except (CorruptStoreError, RuntimeError) as error:
            limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
            if errors.is_full(error) or (limited and errors.could_not_grow(error)):
                raise errors.full(folder, undone=False) from error
            raise CorruptStoreError(
                f"the graph in {folder} is damaged beyond its log ({errors.one_line(error)}); restore a snapshot: "
                "memstore restore"
            ) from error
    finally:
        lock.release()
    return (
        f"the write-ahead log of the graph ({size} bytes) was damaged: earlier writes are in the graph, later "
        f"ones are lost (the log is kept as {kept}); ingest the last files again"
    )


def _quarantine(folder: Path) -> Path:
    log = WriteAheadLog(folder / FILE).log
    if not log.exists():
        raise CorruptStoreError(
            f"the graph in {folder} is damaged and has no log to recover; restore a snapshot: memstore restore"
        )
    (folder / QUARANTINE).mkdir(exist_ok=True)
    named = f"{log.name}.{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S%f}"
    taken = {path.name for path in (folder / QUARANTINE).iterdir()}  # the clock may have gone back
    name = next(name for name in (named, *(f"{named}-{number}" for number in range(len(taken)))) if name not in taken)
    partial = folder / QUARANTINE / "partial"
    with space_errors(f"no space left to keep a copy of {log}; free some and run the same command again"):
        shutil.copy2(log, partial)
    return partial.rename(folder / QUARANTINE / name)


def open_database(folder: Path, buffer_pool_bytes: int, **options: bool) -> Any:
    """Open the database of a folder; `options` are those of `ladybug.Database`."""
    try:
        database = ladybug.Database(folder / FILE, **_sizes(buffer_pool_bytes), **options)
        connection = ladybug.Connection(database)
        connection.execute("CALL force_checkpoint_on_close=false")
        connection.close()
    except (RuntimeError, MemoryError, ValueError, IndexError, OverflowError) as error:  # as pybind translates them
        raise errors.while_opening(error, folder) from error
    return database


def _sizes(buffer_pool_bytes: int) -> dict[str, int]:
    """Options of `ladybug.Database`, in bytes."""
    return {
        "buffer_pool_size": min(buffer_pool_bytes, _half_of_memory()),
        "max_db_size": MAX_BYTES,
        "checkpoint_threshold": CHECKPOINT_BYTES,
    }


def _opens_in_a_child(folder: Path, buffer_pool_bytes: int) -> bool:
    """Whether a child process can open the database. The child ends without closing it, and so changes nothing."""
    options = json.dumps(_sizes(buffer_pool_bytes))
    command = [sys.executable, "-I", "-c", _OPEN, os.fspath(folder / FILE), options]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def _check_folder(folder: Path, create: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise LocationError(f"{folder} is a file; name the folder of a memory's graph")
    if (folder / FILE).is_file():
        return
    if not create:
        raise LocationError(f"there is no graph in {folder} (no file {FILE}); create one by ingesting")
    if folder.is_dir() and {entry.name for entry in folder.iterdir()} - {LOCK_FILE}:
        raise LocationError(f"{folder} holds something else; name an empty or a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        raise LocationError(f"{folder} cannot be created; choose a folder you may write to") from error


def _check_storage_version(file: Path) -> None:
    """Compare the version in the file's first bytes (magic, then a little-endian integer) with the library's."""
    if not file.exists():
        return
    with file.open("rb") as stream:
        head = stream.read(12)
    if not head:  # the process ended before the first statement
        return
    if len(head) < 12 or not head.startswith(_MAGIC):
        raise CorruptStoreError(f"{file} is not a LadybugDB file; restore a snapshot: memstore restore")
    found, known = int.from_bytes(head[4:12], "little"), int(ladybug.Database.get_storage_version())
    if found != known:
        raise SchemaError(
            f"{file} has storage version {found} and the installed ladybug {ladybug.__version__} reads {known}; "
            "run memstore snapshot with the version that wrote it, then memstore restore with this one"
        )


def _roll_back(connection: Any) -> None:
    """Roll back the transaction, unless an error has ended it already."""
    try:
        connection.execute("ROLLBACK")
    except RuntimeError as error:
        if "No active transaction" not in str(error):
            raise


def _half_of_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
