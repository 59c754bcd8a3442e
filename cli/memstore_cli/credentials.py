"""Read a key or token from a file or an environment variable."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from memstore_cli.options import UsageError

if TYPE_CHECKING:
    from pydantic import SecretStr


def read_secret(file: Path | None, variable: str, noun: str) -> SecretStr | None:
    """The secret in the file, or else in the environment variable; None if neither is given.

    Args:
        noun: `key` or `token`, for error messages.

    Raises:
        UsageError: the file cannot be read, or the secret is empty or contains other than printable ASCII.
    """
    from pydantic import SecretStr

    if file is None:
        secret = os.environ.get(variable, "").strip()
        if not secret:
            return None
    else:
        try:
            secret = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the {noun} file {file}: {error}") from error
    if not re.fullmatch(r"[!-~]+", secret):
        raise UsageError(f"{file or variable} holds no valid {noun}; it must be one line of ASCII without spaces")
    return SecretStr(secret)
