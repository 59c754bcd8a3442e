"""Files that a verb is told to write: found out before the work, and not after it, whether they can be made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memstore.errors import InputError


def check_target(path: Path | None, what: str, inputs: Sequence[str | Path] = ()) -> None:
    """Find out before the work whether a file can be made there.

    Args:
        what: is to be written, as a sentence names it.
        inputs: files that are read.

    Raises:
        InputError: the path is a folder, or lies in one that is not there, or is one of the inputs.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file for the {what}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} to; make it first")
    if any(path.resolve() == Path(file).resolve() for file in inputs):
        raise InputError(f"{path} is read, so the {what} cannot be written to it; name another file")


def need_matplotlib() -> None:
    """Find out before the work whether pictures can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("plots need matplotlib; install it with: pip install 'memstore[plots]'") from error
