"""Canonical form of a program: independent of comments, layout, annotations and the names of local variables.

An answer may be a whole program or the body of a function whose signature is in the query; both have the same form.
If the program defines the query's function, only imports, definitions and assignments are kept, not calls and asserts.
Parameters keep their names, because callers may pass them by keyword. A source that does not parse or is nested too
deeply is compared as text. An answer that is a literal, such as the output of a program, is a value and is not put
under the signature. Two programs that compute the same result in different ways remain two answers.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from functools import lru_cache
from itertools import count
from typing import NamedTuple

from memstore.text.fences import program_in
from memstore.text.literal import expression_form, literal_value
from memstore.text.parsing import PARSE_ERRORS, PARSE_LIMIT, depth, parsed
from memstore.text.plain import collapse

_MAX_DEPTH = 100
"""Levels of a syntax tree, low enough for Python's recursion limit at any depth of the caller's stack."""
_DEF = re.compile(r"^(?:async[ \t]++)?def[ \t]++(\w++)[ \t]*+\(", re.M)
_BUILTINS = frozenset(dir(builtins))


class _Signature(NamedTuple):
    name: str
    line: str
    """`def name(...) -> ...:`, perhaps over several lines."""
    imports: frozenset[str]


def canonical(answer: str, query: str) -> str:
    """Return the canonical form of a program, or the text with normalised whitespace if it is not a program."""
    source = program_in(answer).strip("\n").rstrip()
    if not source:
        return ""
    if len(source) <= PARSE_LIMIT:
        value = literal_value(source) or expression_form(source)
        if value is not None:
            return value
        try:
            tree = _parse(source, _signature(query) if len(query) <= PARSE_LIMIT else None)
            if tree is not None and depth(tree, _MAX_DEPTH) <= _MAX_DEPTH:
                return ast.unparse(_normal(tree))
        except PARSE_ERRORS:
            pass
    return collapse(source)


def _parse(source: str, signature: _Signature | None) -> ast.Module | None:
    """Parse the answer, trying it as a function body under the signature first; None if it does not parse."""
    if signature and not re.search(rf"^(?:async[ \t]++)?def[ \t]++{signature.name}\b", source, re.M):
        bodies = (source, textwrap.indent(textwrap.dedent(source), "    "), "    " + source)
        for body in bodies:
            tree = parsed(f"{signature.line}\n{body}\n")
            if tree is not None:
                return ast.Module(body=tree.body[:1], type_ignores=[])
    tree = parsed(textwrap.dedent(source))
    if tree is not None and signature:
        return _relevant_part(tree, signature)
    return tree


@lru_cache(maxsize=512)
def _signature(query: str) -> _Signature | None:
    """The last function signature in the query, and the query's imports."""
    definitions = list(_DEF.finditer(query))
    if not definitions:
        return None
    found = definitions[-1]
    depth = 0
    for mark in re.finditer(r"[()\[\]{}:]", query[found.start() :]):
        depth += (mark[0] in "([{") - (mark[0] in ")]}")
        if mark[0] == ":" and depth == 0:
            line = query[found.start() : found.start() + mark.end()]
            break
    else:
        return None
    if parsed(f"{line}\n    pass") is None:
        return None
    imports = re.findall(r"^(?:import|from)[ \t][^\n]++", query, re.M)
    trees = [tree for statement in imports if (tree := parsed(statement)) is not None]
    return _Signature(found[1], line, frozenset(ast.unparse(node) for tree in trees for node in tree.body))


def _relevant_part(tree: ast.Module, signature: _Signature) -> ast.Module:
    """Keep definitions, assignments and new imports if the program defines the query's function."""
    if not any(isinstance(node, ast.FunctionDef) and node.name == signature.name for node in tree.body):
        return tree
    kept: list[ast.stmt] = []
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            if ast.unparse(node) not in signature.imports:
                kept.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign):
            kept.append(node)
    return ast.Module(body=kept, type_ignores=[])


def _normal(tree: ast.Module) -> ast.Module:
    """Remove docstrings and annotations, and number the local variables of each function."""
    outer = _bound_outside(tree)
    tree = _Strip().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    _number_locals(child, outer)
    return tree


def _bound_outside(tree: ast.Module) -> frozenset[str]:
    """Names that are defined outside functions: builtins and module-level names."""
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names |= _names_in(node)
    return _BUILTINS | names


class _Strip(ast.NodeTransformer):
    """Removes docstrings, other string statements, and annotations."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.returns = None
        if isinstance(node, ast.stmt | ast.ExceptHandler) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[union-attr]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is None:
            return self.generic_visit(node)
        return self.generic_visit(ast.Assign(targets=[node.target], value=node.value, lineno=node.lineno))


class _Names:
    """The names in a function, grouped by how they are used."""

    def __init__(self, function: ast.AST) -> None:
        self.bound: dict[str, None] = {}
        """Assigned names in order of appearance."""
        self.used: set[str] = set()
        self.scoped: set[str] = set()
        """Names bound by a comprehension; outside it the same name may refer to something else."""
        self.kept: set[str] = set()
        """Names that must not change: parameters, keywords, and names bound by other statements than assignments."""
        for node in _in_order(function):
            self._add(node)

    def _add(self, node: ast.AST) -> None:
        match node:
            case ast.Name():
                self.used.add(node.id)
                if isinstance(node.ctx, ast.Store):
                    self.bound.setdefault(node.id)
            case ast.comprehension():
                self.scoped |= _names_in(node.target)
            case ast.ClassDef():
                self.kept |= {node.name} | _names_in(node)
            case ast.Global() | ast.Nonlocal():
                self.kept.update(node.names)
            case (
                ast.arg(arg=name) | ast.keyword(arg=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name)
            ):
                self.kept.add(name or "")
            case ast.ExceptHandler(name=name) | ast.MatchAs(name=name) | ast.MatchStar(name=name):
                self.kept.add(name or "")
            case ast.alias():
                self.kept.add(node.asname or node.name.partition(".")[0])
            case _:
                pass


def _number_locals(function: ast.FunctionDef | ast.AsyncFunctionDef, outer: frozenset[str]) -> None:
    """Rename the local variables of `function` in order of appearance: v0, v1, ...

    The renaming is one-to-one over the whole function, nested functions included, and skips names in use, so the
    meaning of the program does not change.
    """
    names = _Names(function)
    renamed = [name for name in names.bound if name not in names.kept and not (name in names.scoped and name in outer)]
    taken = (names.used | names.kept | outer) - set(renamed)
    fresh = (name for name in map("v{}".format, count()) if name not in taken)
    new = dict(zip(renamed, fresh, strict=False))
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            node.id = new.get(node.id, node.id)


def _names_in(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def _in_order(function: ast.AST) -> list[ast.AST]:
    """Nodes depth first, in source order."""
    found: list[ast.AST] = []
    stack = [function]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(reversed(list(ast.iter_child_nodes(node))))
    return found
