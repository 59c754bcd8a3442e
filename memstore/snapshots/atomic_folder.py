"""Write a folder of files atomically: it is built under a temporary name beside its destination and renamed."""

from __future__ import annotations

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
