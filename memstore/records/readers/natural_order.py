"""Natural order of names: `2.jsonl` comes before `10.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

_DIGITS = re.compile(r"([0-9]+)")
Name = TypeVar("Name")


def in_natural_order(names: Iterable[Name]) -> list[Name]:
    """Sorted with numbers in names compared as numbers."""

    def key(name: Name) -> list[tuple[int, str]]:
        return [(int(part) if number % 2 else 0, part) for number, part in enumerate(_DIGITS.split(str(name)))]

    return sorted(names, key=key)
