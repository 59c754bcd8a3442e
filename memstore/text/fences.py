"""Select the fenced code block of a response that is its answer."""

from __future__ import annotations

import re
from typing import NamedTuple

_FENCE = re.compile(r"^[ \t]*+(?:```|~~~)[ \t]*+([\w+#.-]*+)[^\n`]*+$", re.M)
_NO_PROGRAM = frozenset(["bash", "sh", "shell", "console", "text", "txt", "output", "json", "plaintext"])
_DEFINES = re.compile(r"^[ \t]*+(?:async[ \t]++def|def|class)\b", re.M)


class Block(NamedTuple):
    """A fenced block: its span in the text, fences included, and its content."""

    start: int
    end: int
    content: str


def answer_block(text: str) -> Block | None:
    """Return the last block with a definition, otherwise the last block that can be a program, otherwise None.

    A block without a closing fence, as in a truncated response, extends to the end of the text.
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
    """Return the content of the answer block of `text`, or `text` itself if it has no fence."""
    block = answer_block(text)
    return block.content if block else text
