"""Values in addresses and forms that must be one of a few."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from memstore.errors import InputError

SHOWN = 40
"""Characters of an unknown value that a sentence repeats."""


def choice(given: Mapping[str, Any], name: str, known: Iterable[str], default: str) -> Any:
    """The value of this name; the default if it is absent or empty.

    Raises:
        InputError: it is not one of the known ones.
    """
    value = given.get(name) or default
    if value == default or value in (known := tuple(known)):
        return value
    raise InputError(f"{name} is one of {', '.join(known)}, not {str(value)[:SHOWN]!r}")
