"""Check before the work whether an output file can be written and plots can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from memstore.checks import check_not_input
from memstore.errors import InputError


def check_output(path: Path | None, what: str, inputs: Sequence[str | Path] = ()) -> None:
    """Check that an output file can be created.

    Args:
        path: the output file; None skips the check.
        what: content of the file, for the message (`scores`).
        inputs: files that are read.

    Raises:
        InputError: `path` is a folder, a device or an input, or its folder does not exist.
    """
    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file for the {what}")
    if path.exists() and not path.is_file():  # a finished file is renamed over it
        raise InputError(f"{path} is not a regular file; name a file for the {what}")
    if not path.parent.is_dir():
        raise InputError(f"the folder {path.parent} for {path.name} does not exist; create it first")
    check_not_input(path, what, inputs)


def need_matplotlib() -> None:
    """Check that matplotlib is installed.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError("plots need matplotlib; install it with: pip install 'memstore[plots]'") from error
