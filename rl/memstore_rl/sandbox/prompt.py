"""Reads the code in a query, and combines it with an answer into a program."""

from __future__ import annotations

import ast
import re
import textwrap
from functools import lru_cache
from typing import NamedTuple

from memstore.text.fences import program_in, unfenced
from memstore.text.parsing import parsed as quietly_parsed

_PARSE_LIMIT = 100_000
_CODE_LINE = re.compile(r"^(?:from|import|def|async[ \t]++def|class|@)\b", re.M)

_CLASS = re.compile(r"\bclass[ \t]+[`'\"]?([A-Z]\w*)")


class Prompt(NamedTuple):
    """The code in a query."""

    code: str
    """All code; "" if there is none."""
    prelude: str
    """The code before the function to write: imports, and helpers that the tests may call."""
    entry: str | None
    """Name of the function to write: the last one in the code."""
    classes: frozenset[str] = frozenset()
    """Names of the classes that the query defines or asks for."""


@lru_cache(maxsize=512)
def read_prompt(query: str) -> Prompt:
    """Read the code of a query that is code, contains a code block, or ends with code."""
    line, classes = _CODE_LINE.search(query), frozenset(_CLASS.findall(query))
    for code in (query, unfenced(query), query[line.start() :] if line else ""):
        tree = parsed(code) or parsed(code.rstrip() + "\n    pass\n")
        functions = (
            [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)] if tree else []
        )
        if functions:
            last = functions[-1]
            first_line = min([last.lineno, *(mark.lineno for mark in last.decorator_list)])
            prelude = "".join(code.splitlines(keepends=True)[: first_line - 1])
            return Prompt(code, prelude, last.name, classes)
    return Prompt("", "", None, classes)


def program_of(answer: str, prompt: Prompt) -> str:
    """Return the program of an answer, which may be a whole program or a body that continues the query's code."""
    source = program_in(answer)
    if prompt.entry is None:
        return textwrap.dedent(source)
    if _defines(source, prompt.entry):
        whole = textwrap.dedent(source)
        return whole if "__future__" in whole else f"{prompt.prelude}\n{whole}"
    bodies = (source, textwrap.indent(textwrap.dedent(source), "    "), "    " + source)
    programs = [f"{prompt.code.rstrip()}\n{body}" for body in bodies]
    return next(filter(_is_valid, programs), programs[0])


def _is_valid(program: str) -> bool:
    """Whether it parses with every `return` inside a function."""
    tree = parsed(program)
    return tree is not None and not any(isinstance(node, ast.Return) for node in tree.body)


def _defines(source: str, name: str) -> bool:
    return bool(re.search(rf"^[ \t]*+(?:(?:async[ \t]++)?def|class)[ \t]++{name}\b|^{name}[ \t]*+=", source, re.M))


def parsed(source: str, longest: int = _PARSE_LIMIT) -> ast.Module | None:
    """Parse a source; None if it is blank, too long or invalid."""
    return None if len(source) > longest or not source.strip() else quietly_parsed(source)
