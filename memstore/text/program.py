"""Canonical value of a program: what is left when names of local variables, comments and layout are taken away.

An answer may be a whole program or the body of a function whose signature stands in the query; both come to the
same form. Of a program that defines the query's function only what that function may need counts, not the calls
and asserts below it. Parameters keep their names, for a caller may use them. What does not parse, or nests too
deeply, is a text in one spacing. Two programs that compute the same in different ways stay two answers.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import warnings
from functools import lru_cache
from typing import NamedTuple

from memstore.text.fences import unfenced
from memstore.text.plain import collapse

_PARSE_LIMIT = 50_000
"""Characters; a longer answer is only brought into one spacing."""
_MAX_DEPTH = 100
"""Levels of a syntax tree: far under what recursion allows, whatever the depth of the caller's stack."""
_DEF = re.compile(r"^(?:async[ \t]++)?def[ \t]++(\w++)[ \t]*+\(", re.M)
_BUILTINS = frozenset(dir(builtins))
_UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


class _Signature(NamedTuple):
    name: str
    line: str
    """`def name(...) -> ...:`, perhaps over several lines."""
    imports: frozenset[str]


def canonical(answer: str, query: str) -> str:
    """The canonical form of a program, or of a text that is none."""
    source = unfenced(answer).strip("\n").rstrip()
    if not source:
        return ""
    if len(source) <= _PARSE_LIMIT:
        try:
            tree = _parse(source, _signature(query) if len(query) <= _PARSE_LIMIT else None)
            if tree is not None and _depth(tree) <= _MAX_DEPTH:
                return ast.unparse(_normal(tree))
        except _UNPARSABLE:
            pass
    return collapse(source)


def _parse(source: str, signature: _Signature | None) -> ast.Module | None:
    """The answer's tree, a body put under its signature; None where no reading of it parses."""
    if signature and not re.search(rf"^(?:async[ \t]++)?def[ \t]++{signature.name}\b", source, re.M):
        bodies = (source, textwrap.indent(textwrap.dedent(source), "    "), "    " + source)
        for body in bodies:
            tree = _parsed(f"{signature.line}\n{body}\n")
            if tree is not None:
                return ast.Module(body=tree.body[:1], type_ignores=[])
    tree = _parsed(textwrap.dedent(source))
    if tree is not None and signature:
        return _needed(tree, signature)
    return tree


def _parsed(source: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except _UNPARSABLE:
            return None


@lru_cache(maxsize=512)
def _signature(query: str) -> _Signature | None:
    """The last function that the query begins, and what it imports before."""
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
    if _parsed(f"{line}\n    pass") is None:
        return None
    imports = re.findall(r"^(?:import|from)[ \t][^\n]++", query, re.M)
    trees = [tree for statement in imports if (tree := _parsed(statement)) is not None]
    return _Signature(found[1], line, frozenset(ast.unparse(node) for tree in trees for node in tree.body))


def _needed(tree: ast.Module, signature: _Signature) -> ast.Module:
    """Of a program that defines the query's function: definitions, assignments, and imports the query lacks."""
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


def _depth(tree: ast.AST) -> int:
    """Levels of the tree, counted without recursion and only as far as it matters."""
    level: list[ast.AST] = [tree]
    depth = 0
    while level and depth <= _MAX_DEPTH:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth


def _normal(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and annotations, the local variables of each function numbered."""
    outer = _bound_outside(tree)
    tree = _Strip().visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef):
            for child in node.body:
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    _number_locals(child, outer)
    return tree


def _bound_outside(tree: ast.Module) -> frozenset[str]:
    """Names that a function may mean without binding them itself."""
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return _BUILTINS | names


class _Strip(ast.NodeTransformer):
    """Docstrings, other strings that stand alone, and annotations."""

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self._body(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        node.returns = None
        return self._body(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.stmt:
        node.returns = None
        return self._body(node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:
            return self._body(node)
        return self._body(ast.Assign(targets=[node.target], value=node.value, lineno=node.lineno))

    def _body(self, node: ast.stmt) -> ast.stmt:
        self.generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.stmt) and getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node


def _number_locals(function: ast.FunctionDef | ast.AsyncFunctionDef, outer: frozenset[str]) -> None:
    """Rename what `function` binds, in order of appearance: v0, v1, ...

    One new name for one old one in the whole function, nested ones included, so the program means the same. A name
    stays where that could fail: parameters and keywords, global and nonlocal ones, those of a nested class, and a
    comprehension's that means something else outside of it.
    """
    kept: set[str] = set()
    bound: dict[str, None] = {}
    used: set[str] = set()
    scoped: set[str] = set()
    for node in _in_order(function):
        if isinstance(node, ast.arg | ast.keyword) and node.arg:
            kept.add(node.arg)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            kept.update(node.names)
        elif isinstance(node, ast.ClassDef):
            kept.update(child.id for child in ast.walk(node) if isinstance(child, ast.Name))
        elif isinstance(node, ast.comprehension):
            scoped.update(child.id for child in ast.walk(node.target) if isinstance(child, ast.Name))
        elif isinstance(node, ast.Name):
            used.add(node.id)
            if isinstance(node.ctx, ast.Store):
                bound.setdefault(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            kept.add(node.name)
    names = [name for name in bound if name not in kept and not (name in scoped and name in outer)]
    free = (f"v{number}" for number in range(len(names) + len(used) + len(kept)))
    taken = (used | kept | outer) - set(names)
    fresh = (name for name in free if name not in taken)
    renamed = dict(zip(names, fresh, strict=False))
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            node.id = renamed.get(node.id, node.id)


def _in_order(function: ast.AST) -> list[ast.AST]:
    """Nodes depth first, in the order in which they stand."""
    found: list[ast.AST] = []
    stack = [function]
    while stack:
        node = stack.pop()
        found.append(node)
        stack.extend(reversed(list(ast.iter_child_nodes(node))))
    return found
