"""Syntax features of programs: whether an answer parses, and whether two programs differ only in names.

Nothing is executed. If the query begins a function, a completion is parsed together with the query. Programs that
are nested too deeply do not parse, and text after `LIMIT` characters is ignored.

Every text has an outcome, and the same one wherever it is computed: what recurses over a tree reads only trees of
`MAX_DEPTH` levels, so that the recursion limit of Python and the depth of the caller's stack do not matter.
"""

from __future__ import annotations

import ast
import re
import textwrap
import warnings
from typing import NamedTuple

import numpy as np

LIMIT = 20_000
"""Characters of a program that are parsed."""
MAX_DEPTH = 100
"""Levels of a syntax tree that is written as text. Programs of people and policies have about 30 at most."""
_FENCE = re.compile(r"```(?:python|py)?[ \t]*+\n(.*?)(?:```|\Z)", re.DOTALL)

NAMES = (
    "parses",
    "log_nodes",
    "log_code_lines",
    "comment_share",
    "returns",
    "branches",
    "loops",
    "empty_body",
    "docstring_only",
)


UNWRITABLE = (ValueError, RecursionError, MemoryError)
"""Errors of `ast.unparse` and `ast.dump`: integers of more than 4,300 digits, and what is nested too deeply."""


class Program(NamedTuple):
    """An answer parsed as a program."""

    tree: ast.Module | None
    """None if it does not parse."""
    source: str
    completes: bool
    """It was parsed together with the query."""


def read_program(query: str, answer: str) -> Program:
    """Parse an answer: by itself, as the rest of the query, or as the body of a function."""
    code = _FENCE.search(answer)
    text = (code.group(1) if code else answer)[:LIMIT].rstrip()
    if not text.strip() or "\0" in text:
        return Program(None, text, False)
    begun = query.rstrip() + "\n" if _is_begun(query) else ""
    indented = text[:1] in " \t"
    if begun and (indented or "def " not in text):
        body = text if indented else textwrap.indent(text, "    ")
        return Program(_parse(begun + body), text, True)
    tree = _parse(text)
    if tree is None:
        tree = _parse("def answer():\n" + textwrap.indent(textwrap.dedent(text), "    "))
    return Program(tree, text, False)


def _is_begun(query: str) -> bool:
    """Whether the query ends inside a function that it begins."""
    return bool(re.search(r"(?:^|\n)def ", query)) and _parse(query.rstrip() + "\n    pass\n") is not None


def _parse(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


class _Renamed(ast.NodeTransformer):
    """Renames variables in order of appearance; drops docstrings and annotations."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}

    def _new(self, name: str) -> str:
        return self.names.setdefault(name, f"v{len(self.names)}")

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._new(node.id)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg, node.annotation = self._new(node.arg), None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name, node.returns = self._new(node.name), None
        if len(node.body) > 1 and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
        self.generic_visit(node)
        return node


def shape(program: Program) -> str:
    """Dump of the renamed tree, equal for programs that differ only in names, comments and layout; "" without one, and
    for a tree that cannot be written as text."""
    if program.tree is None or is_deep(program.tree):
        return ""
    try:
        return ast.dump(_Renamed().visit(program.tree))
    except UNWRITABLE:
        return ""


def normal_source(program: Program) -> str | None:
    """Source without comments and layout; None without a tree, and for a tree that cannot be written as text."""
    if program.tree is None or is_deep(program.tree):
        return None
    try:
        return ast.unparse(program.tree)
    except UNWRITABLE:
        return None


def is_deep(tree: ast.AST) -> bool:
    """Whether a tree has more than `MAX_DEPTH` levels; computed without recursion."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return False
    return True


def syntax_of(program: Program) -> tuple[float, ...]:
    """The numbers of `NAMES` for one program."""
    lines = [line.strip() for line in program.source.splitlines() if line.strip()]
    comments = sum(line.startswith("#") for line in lines)
    shared = (float(np.log1p(len(lines))), comments / max(len(lines), 1))
    if program.tree is None:
        return (0.0, 0.0, *shared, 0.0, 0.0, 0.0, 0.0, 0.0)
    nodes = list(ast.walk(program.tree))
    defined = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    body = [s for d in defined for s in d.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    empty = bool(defined) and all(isinstance(s, ast.Pass) for s in body)
    return (
        1.0,
        float(np.log1p(len(nodes))),
        *shared,
        float(any(isinstance(node, ast.Return) and node.value is not None for node in nodes)),
        float(np.log1p(sum(isinstance(node, ast.If | ast.IfExp) for node in nodes))),
        float(np.log1p(sum(isinstance(node, ast.For | ast.While | ast.comprehension) for node in nodes))),
        float(empty),
        float(bool(defined) and not body),
    )
