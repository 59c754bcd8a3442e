"""Write a folder of files atomically: it is built under a temporary name beside its destination and renamed.

The process that builds a folder holds an flock on it, which the kernel releases when the process ends, however it ends.
A temporary folder without a lock was left by a process that was killed; the next build of the same folder deletes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import itertools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memstore.errors import InputError

_SUFFIX = re.compile(r"(\d+)(?:-\d+)?")
"""End of a temporary name: the pid of its process, and a number where processes of two containers share a pid."""


@contextmanager
def atomic_folder(folder: Path, content: str) -> Iterator[Path]:
    """Yield a temporary folder that becomes `folder` when the context ends, and is deleted if the context fails.

    Args:
        content: noun for the content, used in the error message.

    Raises:
        InputError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists and is not empty; name a new folder for the {content}")
    remove_abandoned(folder)
    building = _new_folder(folder)
    lock = os.open(building, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a file system without locks: the pid says whether the folder is in use
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield building
        if folder.exists():
            folder.rmdir()
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def remove_abandoned(folder: Path) -> None:
    """Delete what processes that were killed while they built `folder` have left."""
    prefix = f".{folder.name}."
    for left in folder.parent.glob(f"{glob.escape(prefix)}*"):
        suffix = _SUFFIX.fullmatch(left.name.removeprefix(prefix))
        if suffix and left.is_dir() and _is_abandoned(left, int(suffix[1])):
            shutil.rmtree(left, ignore_errors=True)


def _new_folder(folder: Path) -> Path:
    """Make a temporary folder for `folder`."""
    name = f".{folder.name}.{os.getpid()}"
    for number in itertools.count():
        building = folder.with_name(f"{name}-{number}" if number else name)
        try:
            building.mkdir(parents=True)
        except FileExistsError:
            continue
        return building
    raise AssertionError("itertools.count ended")


def _is_abandoned(building: Path, pid: int) -> bool:
    """Whether no process builds this folder any more."""
    try:
        lock = os.open(building, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return not _is_running(pid)
    finally:
        os.close(lock)
    return True


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
