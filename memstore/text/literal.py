"""Answers in domain code that are values: Python literals, as sets that ask for the output of a program expect them.

Spacing, quotes and the order of the elements of a set do not count; types do: `1`, `1.0` and `'1'` differ.
"""

from __future__ import annotations

import ast

from memstore.text.parsing import PARSE_ERRORS, depth, parsed

_MAX_LENGTH = 20_000
"""Characters; a longer answer is not read as a literal."""
_MAX_DEPTH = 60
"""Nested containers; bounds recursion."""


def literal_value(source: str) -> str | None:
    """Return the canonical form of a Python literal, or None if `source` is not one.

    An assertion that ends in a literal, `assert f(1) == [2, 3]`, stands for that literal.

    Example:
        literal_value('[ "a",2 ]') == "['a', 2]"
    """
    if len(source) > _MAX_LENGTH:
        return None
    tree = parsed(source.strip())
    if tree is None or len(tree.body) != 1:
        return None
    match tree.body[0]:
        case ast.Expr(value=ast.Constant(value=str())) if source[:1] in (" ", "\t"):
            return None  # the docstring of a function body
        case ast.Expr(value=value):
            pass
        case ast.Assert(test=ast.Compare(left=ast.Call(), ops=[ast.Eq()], comparators=[value])) if source[0] == "a":
            pass
        case _:
            return None
    try:
        return _form(value, 0)
    except PARSE_ERRORS:
        return None


def expression_form(source: str) -> str | None:
    """Return the form of an expression at the margin that calls nothing, or None if `source` is something else.

    It is no body of a function, in which it would do nothing: `abc` or `n * 2` is an answer in itself.
    """
    if source[:1] in (" ", "\t") or len(source) > _MAX_LENGTH:
        return None
    tree = parsed(source)
    if tree is None or len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr):
        return None
    value = tree.body[0].value
    if isinstance(value, ast.Constant) or depth(value, _MAX_DEPTH) > _MAX_DEPTH or any(map(_acts, ast.walk(value))):
        return None
    try:
        return ast.unparse(value)
    except PARSE_ERRORS:
        return None


def _acts(node: ast.AST) -> bool:
    return isinstance(node, ast.Call | ast.Await | ast.Yield | ast.YieldFrom | ast.NamedExpr)


def _form(node: ast.expr, depth: int) -> str | None:
    """The form of a literal; None if the expression is not one."""
    if depth > _MAX_DEPTH:
        return None
    match node:
        case ast.Constant(value=value):
            return None if value is Ellipsis else repr(value)
        case ast.UnaryOp(
            op=ast.USub() | ast.UAdd() as sign, operand=ast.Constant(value=int() | float() | complex() as value)
        ):
            return repr(-value if isinstance(sign, ast.USub) else +value)
        case ast.List(elts=elements):
            return _joined("[", elements, "]", depth)
        case ast.Tuple(elts=elements):
            return _joined("(", elements, ",)" if len(elements) == 1 else ")", depth)
        case ast.Set(elts=elements):
            forms = _forms(elements, depth)
            return None if forms is None else "{" + ", ".join(sorted(set(forms))) + "}"
        case ast.Dict(keys=keys, values=values):
            names = _forms([key for key in keys if key is not None], depth)
            forms = _forms(values, depth)
            if names is None or forms is None or None in keys:
                return None
            pairs = dict(zip(names, forms, strict=True))
            return "{" + ", ".join(f"{name}: {pairs[name]}" for name in sorted(pairs)) + "}"
        case ast.Call(func=ast.Name(id="set"), args=[], keywords=[]):
            return "set()"
        case _:
            return None


def _forms(elements: list[ast.expr], depth: int) -> list[str] | None:
    forms = [_form(element, depth + 1) for element in elements]
    found = [form for form in forms if form is not None]
    return found if len(found) == len(forms) else None


def _joined(opening: str, elements: list[ast.expr], closing: str, depth: int) -> str | None:
    forms = _forms(elements, depth)
    return None if forms is None else opening + ", ".join(forms) + closing
