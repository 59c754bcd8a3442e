"""Select the fenced code block of a response that is its answer.

The answer is the last block that is a program. Blocks that show how to use a program given before are skipped: tests,
example calls, sample input and output, console sessions.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from memstore.text.listing import program_span
from memstore.text.parsing import PARSE_LIMIT, parsed

_FENCE = re.compile(r"^[ \t]*+(?:```|~~~)[ \t]*+([\w+#.-]*+)[^\n`]*+$", re.M)
_NO_PROGRAM = frozenset(
    [
        "bash", "sh", "shell", "console", "text", "txt", "output", "input", "json", "plaintext", "plain", "pycon",
        "yaml", "toml", "xml", "html", "csv", "diff", "stdout", "stdin", "terminal", "cmd", "powershell", "markdown",
        "md",
    ]
)  # fmt: skip
_DEFINES = re.compile(r"^[ \t]*+(?:async[ \t]++def|def|class)\b", re.M)
_STARTS_PROGRAM = re.compile(r"^(?:async[ \t]++def|def|class)[ \t]++\w++[ \t]*+[(:\[]", re.M)
_CODE_LINE = re.compile(
    r"^[ \t]*+(?:import|from|for|while|if|print|return|def|class|[\w.\[\]]++[ \t]*+[-+*/]?=)(?![\w])", re.M
)
_READS_INPUT = re.compile(r"\binput\s*\(|\bsys\.stdin\b|\bopen\s*\(\s*(?:0|['\"]/dev/stdin)|\bfileinput\b")
_FINAL = re.compile(r"\b(?:final|complete|corrected|full|improved|fixed|submission|solution)\b[^\n]{0,60}\Z", re.I)
"""Words in the line before a block that make it the answer, whatever it holds."""
_USAGE = re.compile(r"\b(?:example|usage|test|demo|sample|output|prints?|run)\w*\b[^\n]{0,60}\Z", re.I)
_TEST_NAME = re.compile(r"test|Test")
_MAX_BLOCKS = 30
"""Blocks that are considered, from the end."""


class Block(NamedTuple):
    """A fenced block: its span in the text, fences included, and its content."""

    start: int
    end: int
    content: str


def answer_block(text: str) -> Block | None:
    """Return the last block that is a program and no test or example of an earlier one; None without such a block.

    A block without a closing fence, as in a truncated response, extends to the end of the text. A program whose opening
    fence is missing ends at its closing fence.
    """
    blocks = _blocks(text)
    programs = [_is_program(block) for block in blocks]
    for at in range(len(blocks) - 1, -1, -1):
        if any(programs) and not programs[at]:
            continue
        if not any(programs[:at]) or not _shows_usage(blocks[at], text):
            return blocks[at]
    return None


def unfenced(text: str) -> str:
    """Return the content of the answer block of `text`, or `text` itself if it has no fence."""
    block = answer_block(text)
    return block.content if block else text


def program_in(answer: str) -> str:
    """Return the program in an answer: its answer block, or the text without words around the program.

    Example:
        program_in("Sure!\\n\\ndef f():\\n    return 1\\n\\nIt returns 1.") == "def f():\\n    return 1\\n\\n"
    """
    block = answer_block(answer)
    if block:
        return block.content
    if answer[:1] in (" ", "\t") or not answer.strip():
        return answer
    span = program_span(answer)
    return answer[span.start : span.end]


def _blocks(text: str) -> list[Block]:
    """The last fenced blocks that can hold a program."""
    if "```" not in text and "~~~" not in text:
        return []
    fences = list(_FENCE.finditer(text))
    found: list[Block] = []
    if fences and (unopened := _unopened(text, fences)):
        found.append(unopened)
        fences = fences[1:]
    for position in range(0, len(fences), 2):
        opening = fences[position]
        closing = fences[position + 1] if position + 1 < len(fences) else None
        content = text[opening.end() + 1 : closing.start() if closing else len(text)]
        if content.strip() and opening[1].lower() not in _NO_PROGRAM:
            found.append(Block(opening.start(), closing.end() if closing else len(text), content))
    return found[-_MAX_BLOCKS:]


def _unopened(text: str, fences: list[re.Match[str]]) -> Block | None:
    """The program before the first fence, if this fence closes it: it names no language, and words follow it."""
    first, before = fences[0], text[: fences[0].start()]
    after = text[first.end() + 1 : fences[1].start() if len(fences) > 1 else len(text)]
    if first[1] or not _STARTS_PROGRAM.search(before) or _is_program(Block(0, 0, after)):
        return None
    span = program_span(before)
    return Block(span.start, first.end(), before[span.start : span.end])


def _is_program(block: Block) -> bool:
    """Whether a block has code, not only data: a constant, words, the lines of a sample input."""
    content = block.content
    if _DEFINES.search(content) or _READS_INPUT.search(content):
        return True
    tree = parsed(content) if len(content) <= PARSE_LIMIT else None
    if tree is None:
        return not content.lstrip().startswith(">>>") and _CODE_LINE.search(content) is not None
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in tree.body)


def _shows_usage(block: Block, text: str) -> bool:
    """Whether a block only tests or calls a program: no definition of its own, and it reads no input."""
    before = text[max(0, block.start - 200) : block.start].rstrip().rpartition("\n")[2].rstrip(" :*_`")
    content = block.content
    if _FINAL.search(before) and not _USAGE.search(before):
        return False
    if _READS_INPUT.search(content):
        return False
    tree = parsed(content) if len(content) <= PARSE_LIMIT else None
    if tree is None:
        return not _DEFINES.search(content)
    return all(_is_usage(node) for node in tree.body)


def _is_usage(node: ast.stmt) -> bool:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return name.startswith("test") or name in ("check", "main_test", "run_tests", "setUp")
        case ast.ClassDef(name=name, bases=bases):
            return bool(_TEST_NAME.match(name)) or any("TestCase" in ast.dump(base) for base in bases)
        case _:
            return True
