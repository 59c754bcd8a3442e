"""Names in a plan that become folders of a reproduction."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST = 100
_RESERVED = frozenset(
    ["lock", "plan", "queries", "data", "steps", "logs", "tables", "results", "accuracy", "label_budgets",
     "predictors", "start", "memory", "score", "rollouts"]
)  # fmt: skip
"""Files and folders of a reproduction, without their endings."""
_PREFIXES = ("reward-model", "predictors-")


def checked_name(name: str) -> str:
    """The name of a policy or an ablation.

    Raises:
        ValueError: it cannot name a folder of its own.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("must consist of letters, digits, and `_`, `.`, `-`, as it names a folder")
    if len(name) > _LONGEST:
        raise ValueError(f"has {len(name)} characters, and {_LONGEST} are allowed, as it names a folder")
    # Some file systems do not tell capital from small letters.
    if name.lower().partition(".")[0] in _RESERVED or name.lower().startswith(_PREFIXES):
        raise ValueError(f"is {name}, which names something else in the folder; choose another one")
    return name


def repeated(names: Iterable[object]) -> str | None:
    """The first name that occurs twice, also with other capital letters; None without any."""
    counts = Counter(str(name).lower() for name in names)
    return next((name for name, count in counts.items() if count > 1), None)
