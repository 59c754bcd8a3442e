"""Answers in domain code that are values: Python literals, as sets that ask for the output of a program expect them.

Spacing, quotes and the order of the elements of a set do not count; types do: `1`, `1.0` and `'1'` differ.
"""

from __future__ import annotations

import ast

from memstore.text.parsing import PARSE_ERRORS, parsed

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
        case ast.Expr(value=value):
            pass
        case ast.Assert(test=ast.Compare(ops=[ast.Eq()], comparators=[value])):
            pass
        case _:
            return None
    try:
        return _form(value, 0)
    except PARSE_ERRORS:
        return None


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
