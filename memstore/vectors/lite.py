"""Milvus Lite in this process: a gRPC server over a folder, on the loopback interface and a port of its own.

Started here rather than by pymilvus's `.db` addresses, so that the reason why a folder does not open reaches the
caller, and so that closing really stops the server and lets go of the folder. One process, and in it one
`LiteServer`, owns a folder.

Milvus Lite has no passwords: while a store is open, other users of the same machine could talk to its port.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from memstore.errors import CorruptStoreError, LockedError, StoreFullError

LOOPBACK = "127.0.0.1"
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_STOP_GRACE_S = 2.0


class LiteServer(NamedTuple):
    """A running server: where it listens, and how to stop it (again does nothing)."""

    uri: str
    stop: Callable[[], None]


def start_lite(folder: Path) -> LiteServer:
    """Serve `folder`, which is made if it is not there.

    Raises:
        LockedError: another process, or another store of this one, has the folder open.
        StoreFullError: no space to open it.
        CorruptStoreError: it does not open.
    """
    from milvus_lite.adapter.grpc.server import start_server_in_thread
    from milvus_lite.exceptions import DataDirLockedError

    leave_logging_to_the_application()
    try:
        server, database, port = start_server_in_thread(str(folder), host=LOOPBACK, port=0)
    except DataDirLockedError as error:
        raise _locked(folder) from error
    except Exception as error:
        raise opening_failed(folder, error) from error

    def stop() -> None:
        server.stop(grace=_STOP_GRACE_S).wait()
        database.close()

    return LiteServer(f"http://{LOOPBACK}:{port}", stop)


def opening_failed(folder: Path, error: Exception) -> StoreFullError | CorruptStoreError:
    """What to tell about a folder that does not open."""
    if is_out_of_space(error):
        return StoreFullError(f"there is no space left to open the vectors in {folder}; free some and try again")
    return CorruptStoreError(
        f"the vectors in {folder} do not open ({error}); move that folder away and run `memstore verify --repair`, "
        "which makes them again"
    )


def is_out_of_space(error: BaseException) -> bool:
    """Whether an error, ours or one the server wrote into its answer, says that the disk is full."""
    return any(words in str(error) for words in _NO_SPACE)


@cache
def leave_logging_to_the_application() -> None:
    """Keep client and server from printing to stderr on their own; whoever configures logging gets their records.

    The client prints, and the server logs with its traceback, each fault that becomes a memstore error.
    """
    import pymilvus  # noqa: F401  (it installs its handlers when it is imported)

    for name in ("pymilvus", "pymilvus.milvus_client", "milvus_lite"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = True


def _locked(folder: Path) -> LockedError:
    pid = _lock_holder(folder / "LOCK")
    if pid == os.getpid():
        return LockedError(f"this process has the vectors in {folder} open already; close them first", pid)
    holder = f"process {pid}" if pid else "another process"
    return LockedError(
        f"{holder} has the vectors in {folder} open; wait for it or end it, or use servers to share a memory", pid
    )


def _lock_holder(lock: Path) -> int | None:
    """Pid of the process that holds a lock on this file, where the kernel tells (Linux)."""
    try:
        inode = lock.stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()
        if "FLOCK" in fields and fields[-3].rpartition(":")[2] == str(inode):
            pid = int(fields[-4])
            return pid if pid > 0 else None
    return None
