"""Find the program in a text without code fences: words of explanation may stand before and after it."""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from memstore.text.parsing import PARSE_LIMIT, parsed

_MAX_LINES = 2_000
"""Lines; a longer text is taken as it is."""
_WRAPPER = re.compile(
    r"[ \t]*(?:\[/?[A-Z][A-Z ]*\]|</?(?:code|python|program|solution)>|#+ ?(?:BEGIN|END)\b.*|`{1,3}\w*)[ \t]*", re.I
)
"""A line that marks the program off: "[BEGIN]", "[DONE]", "<code>"."""
_STARTS = re.compile(
    r"(?:async[ \t]+def|def|class)[ \t]+\w+[ \t]*[(:\[]|(?:import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import\b)|@\w"
)
_KEYWORD = (
    "async[ \\t]+def|def|class|import|from|if|elif|else|for|while|try|except|finally|with|return|raise|assert|global"
    "|nonlocal|del|pass|break|continue|print|match|case|lambda|yield|await"
)
_ASSIGNMENT = r"[\w.]+[ \t]*(?:\[[^\n]*\][ \t]*)?(?:[-+*/%&|^]|//|\*\*|<<|>>)?=(?!=)|[\w.]+(?:, *[\w.]+)+[ \t]*="
_CODE = re.compile(
    rf"(?:{_KEYWORD})\b(?=[ \t]*[\w(:'\"\[{{*@-]|[ \t]*$)[^.?!]*+(?:$|[.?!](?!\s*$))"
    rf"|@\w|#|[)\]}}]|'''|\"\"\"|{_ASSIGNMENT}|[\w.]+\("
)
"""A line at the margin that is code: a statement, but not a sentence that begins with such a word."""


class Span(NamedTuple):
    """A part of a text."""

    start: int
    end: int


def program_span(text: str) -> Span:
    """Return the lines of `text` that are its program, or all of it if no part is a program that parses.

    The program starts at the first definition or import at the margin and ends before the first line at the margin
    that is not code. A text that parses as it is, a script for example, is kept whole.
    """
    whole = Span(0, len(text))
    lines = text.splitlines(keepends=True)
    if len(lines) > _MAX_LINES or len(text) > PARSE_LIMIT:
        return whole
    ends, position = [], 0
    for line in lines:
        position += len(line)
        ends.append(position)
    marked = [at for at, line in enumerate(lines) if line.strip() and _WRAPPER.fullmatch(line.rstrip("\n"))]
    if not marked and _is_program(text):
        return whole
    first = next((at for at, line in enumerate(lines) if _STARTS.match(line)), None)
    if first is None:
        return _between_marks(text, marked, ends) or whole
    last = _last_line(lines, first)
    span = Span(ends[first - 1] if first else 0, ends[last])
    return span if parsed(text[span.start : span.end]) is not None else whole


def _last_line(lines: list[str], first: int) -> int:
    """The last line of the program that starts at `first`."""
    last, depth, quoted = first, 0, ""
    for at in range(first, len(lines)):
        line = lines[at]
        inside = depth > 0 or quoted
        if line.strip() and not inside and line[:1] not in (" ", "\t") and not _CODE.match(line):
            break
        depth, quoted = _nesting(line, depth, quoted)
        if line.strip() and not _WRAPPER.fullmatch(line.rstrip("\n")):
            last = at
    return last


_MARKS = re.compile(r"'''|\"\"\"|\\.|#[^\n]*|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[()\[\]{}]")


def _nesting(line: str, depth: int, quoted: str) -> tuple[int, str]:
    """Open brackets and the open triple quote after `line`."""
    for mark in _MARKS.finditer(line):
        token = mark[0]
        if quoted:
            quoted = "" if token == quoted else quoted
        elif token in ("'''", '"""'):
            quoted = token
        elif len(token) == 1:
            depth = max(0, depth + (1 if token in "([{" else -1))
    return depth, quoted


def _between_marks(text: str, marked: list[int], ends: list[int]) -> Span | None:
    """A script between two marks such as "[BEGIN]" and "[DONE]"."""
    if not marked:
        return None
    start = ends[marked[0]]
    end = ends[marked[-1] - 1] if len(marked) > 1 else len(text)
    if not text[start:end].strip():
        start, end = 0, ends[marked[0] - 1] if marked[0] else 0
    return Span(start, end) if text[start:end].strip() and parsed(text[start:end]) is not None else None


def _is_program(text: str) -> bool:
    """Whether a text parses and has no line that is a word or a sentence rather than a statement."""
    tree = parsed(text)
    if tree is None:
        return False
    return len(tree.body) == 1 or not any(_is_word(node) for node in tree.body)


def _is_word(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Name)
