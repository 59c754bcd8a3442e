"""Write a folder of files atomically: it is built under a temporary name beside its destination and renamed."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memstore.errors import InputError


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
    _remove_stale(folder)
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    building.mkdir(parents=True)
    try:
        yield building
        if folder.exists():
            folder.rmdir()
        building.rename(folder)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _remove_stale(folder: Path) -> None:
    """Remove what processes that were killed while building `folder` have left."""
    prefix = f".{folder.name}."
    for left in folder.parent.glob(f"{glob.escape(prefix)}*"):
        pid = left.name.removeprefix(prefix)
        if pid.isdigit() and not _is_running(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
