"""Reads the token of a reward service from a file, because verl prints its settings to its log."""

from __future__ import annotations

from pathlib import Path

from memstore.errors import InputError


def read_token(path: str | None) -> str | None:
    """Return the token in a file; None without a path.

    Raises:
        InputError: the file cannot be read.
    """
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"the token file {path} cannot be read: {error.strerror}") from error
