"""Normalise plain text, for answers that are not numbers, choices or programs."""

from __future__ import annotations

import hashlib

_ENDS = " \t\n.,;:!?\"'`*_<>“”‘’«»…"
_BRACKETS = frozenset("()[]{}")
_PAIRS = frozenset(["()", "[]", "{}"])


def collapse(text: str) -> str:
    """Replace each run of whitespace by one space and strip the ends."""
    return " ".join(text.split())


def fold(text: str) -> str:
    """Remove case, extra whitespace and surrounding punctuation; idempotent.

    A text of punctuation alone, such as "?!", is kept.
    """
    folded = collapse(text.casefold())
    bare = folded.strip(_ENDS)
    while bare[:1] + bare[-1:] in _PAIRS and _BRACKETS.isdisjoint(bare[1:-1]) and bare[1:-1].strip(_ENDS):
        bare = bare[1:-1].strip(_ENDS)
    return bare or folded


def digest(text: str) -> str:
    """Return the digest that stands for `text` where it has no canonical value of its own."""
    return f"blake2b:{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=32).hexdigest()}"
