"""Text in its plainest form, for answers that are neither a number, a choice nor a program."""

from __future__ import annotations

_ENDS = " \t\n.,;:!?\"'`*_<>“”‘’«»…"
_BRACKETS = frozenset("()[]{}")
_PAIRS = frozenset(["()", "[]", "{}"])


def collapse(text: str) -> str:
    """`text` with every run of whitespace as one space, none at its ends."""
    return " ".join(text.split())


def fold(text: str) -> str:
    """`text` without case, extra whitespace and the punctuation around it; idempotent.

    A text of nothing but punctuation keeps it: "?!" is what it says.
    """
    folded = collapse(text.casefold())
    bare = folded.strip(_ENDS)
    while bare[:1] + bare[-1:] in _PAIRS and _BRACKETS.isdisjoint(bare[1:-1]) and bare[1:-1].strip(_ENDS):
        bare = bare[1:-1].strip(_ENDS)
    return bare or folded
