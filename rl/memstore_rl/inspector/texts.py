"""Texts of models as pages show them: cut to a length, and split into prose, mathematics and code.

Nothing here makes HTML: a template escapes each piece. The script of the pages turns the pieces of mathematics into
formulas and leaves those that it cannot read as they were written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

PieceKind = Literal["prose", "math", "display", "code"]

_PIECES = re.compile(
    r"^[ \t]*(?P<fence>```|~~~)[^\n]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)[ \t]*$|\Z)"
    r"|\$\$(?P<dollars>[^$]{1,2000}?)\$\$"
    r"|\\\[(?P<brackets>.{1,2000}?)\\\]"
    r"|\\\((?P<round>.{1,1000}?)\\\)"
    r"|(?<![\\$\w])\$(?P<inline>[^\s$](?:[^$\n]{0,300}?[^\s$\\])?)\$(?![\d$])",
    re.DOTALL | re.MULTILINE,
)
_KINDS: dict[str, PieceKind] = {
    "code": "code",
    "dollars": "display",
    "brackets": "display",
    "round": "math",
    "inline": "math",
}
SHORT = 160
"""Characters of a text in a line."""


class Piece(NamedTuple):
    """A part of a text: how it is shown, what is in it, and how it was written."""

    kind: PieceKind
    text: str
    source: str


@dataclass(frozen=True)
class Cut:
    """A text, or the beginning of it."""

    text: str
    length: int
    """Characters of the whole text."""

    @property
    def is_cut(self) -> bool:
        """Whether something is missing."""
        return len(self.text) < self.length


def cut(text: str | None, limit: int) -> Cut:
    """The first `limit` characters of a text."""
    return Cut((text or "")[:limit], len(text or ""))


def one_line(text: str | None, limit: int = SHORT) -> str:
    """A text on one line, with an ellipsis if it is longer than `limit` characters."""
    line = " ".join((text or "")[: 4 * limit].split())
    return line if len(line) <= limit and len(text or "") <= 4 * limit else line[: limit - 1] + "…"


def pieces(text: str) -> list[Piece]:
    """Split a text into prose, mathematics between its delimiters, and fenced code.

    A dollar before a digit closes no formula, so that amounts of money stay prose.
    """
    found, end = [], 0
    for match in _PIECES.finditer(text):
        if match.start() > end:
            found.append(Piece("prose", text[end : match.start()], text[end : match.start()]))
        name = next(name for name in _KINDS if match[name] is not None)
        found.append(Piece(_KINDS[name], match[name], match[0]))
        end = match.end()
    if end < len(text):
        found.append(Piece("prose", text[end:], text[end:]))
    return found
