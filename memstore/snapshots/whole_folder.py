"""A folder of files that appears whole or not at all: it is written beside its place and renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memstore.errors import InputError


@contextmanager
def new_folder(folder: Path, content: str) -> Iterator[Path]:
    """A folder to write into; it becomes `folder` when the block ends, and is gone when the block fails.

    Args:
        content: what comes into it, for the error.

    Raises:
        InputError: the folder exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists; name a new folder for the {content}")
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
