"""Fenced code in a response: which block is the answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_FENCE = re.compile(r"^[ \t]*+(?:```|~~~)[ \t]*+([\w+#.-]*+)[^\n`]*+$", re.M)
_NO_PROGRAM = frozenset(["bash", "sh", "shell", "console", "text", "txt", "output", "json", "plaintext"])
_DEFINES = re.compile(r"^[ \t]*+(?:async[ \t]++def|def|class)\b", re.M)


class Block(NamedTuple):
    """A fenced block: its place in the text, fences included, and what it holds."""

    start: int
    end: int
    content: str


def answer_block(text: str) -> Block | None:
    """The last block that defines something, else the last that may be a program, else None.

    A block that is never closed, as in a response that was cut off, reaches to the end.
    """
    if "```" not in text and "~~~" not in text:
        return None
    fences = list(_FENCE.finditer(text))
    best: Block | None = None
    best_defines = False
    for position in range(0, len(fences), 2):
        opening = fences[position]
        closing = fences[position + 1] if position + 1 < len(fences) else None
        if opening[1].lower() in _NO_PROGRAM:
            continue
        content = text[opening.end() + 1 : closing.start() if closing else len(text)]
        defines = _DEFINES.search(content) is not None
        if content.strip() and (defines or not best_defines):
            best = Block(opening.start(), closing.end() if closing else len(text), content)
            best_defines = defines
    return best


def unfenced(text: str) -> str:
    """What the answer block of `text` holds; `text` itself where it has no fence."""
    block = answer_block(text)
    return block.content if block else text
