"""Rollouts with one answer, shown as differences to the most central of them.

The central one shares most of its words with the others. A difference is by line, or by sentence where a text has few
lines, and runs of equal lines are folded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

MAX_LINES = 300
"""Lines of a text that are compared."""
_LINES = re.compile(r"\n+")
_SENTENCES = re.compile(r"(?<=[.!?;:])\s+|\n+")


class Line(NamedTuple):
    """A line of a difference; `same` stands for `lines` equal ones, the first of which is the text."""

    kind: Literal["same", "added", "removed"]
    text: str
    lines: int = 1


def central(texts: Sequence[str]) -> int:
    """Position of the text that shares most words with the others: the largest sum of Jaccard indices."""
    words = [frozenset(text.lower().split()) for text in texts]
    shared = [sum(len(one & other) / (len(one | other) or 1) for other in words) for one in words]
    return max(range(len(texts)), key=lambda at: (shared[at], -at))


def difference(central_text: str, text: str) -> list[Line]:
    """What a text has that the central one has not, and the other way round, in the order of the texts."""
    before, after = _lines(central_text), _lines(text)
    found: list[Line] = []
    for tag, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(Line("same", before[a], b - a))
        else:
            found += [Line("removed", line) for line in before[a:b]]
            found += [Line("added", line) for line in after[c:d]]
    return found


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in _LINES.split(text)]
    lines = [line for line in lines if line]
    if len(lines) < 3:
        lines = [part.strip() for part in _SENTENCES.split(text) if part.strip()]
    return lines[:MAX_LINES]
