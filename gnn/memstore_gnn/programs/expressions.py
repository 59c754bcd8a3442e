"""Compile expressions, assignment targets and function objects to closures.

All values are plain. Operations that could make a large value check the limits before or after.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from memstore_gnn.programs.library import Namespace, format_value, method, plain_iterator
from memstore_gnn.programs.limits import (
    Unsupported,
    check_power,
    check_product,
    check_shift,
    checked,
    checked_order,
    checked_text,
)
from memstore_gnn.programs.scope import Eval, Returned, Run, Scope, entered


def _modulo(a: Any, b: Any) -> Any:
    if isinstance(a, str) and re.search(r"\d{3}|\*", a):
        raise Unsupported("format")
    result = a % b
    return checked_text(result) if isinstance(result, str) else result


def _multiply(a: Any, b: Any) -> Any:
    check_product(a, b)
    return a * b


def _power(a: Any, b: Any) -> Any:
    check_power(a, b)
    return a**b


def _shift_left(a: Any, b: Any) -> Any:
    check_shift(a, b)
    return a << b


def _ordered(operate: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An operation that also makes sets."""
    return lambda a, b: checked_order(operate(a, b))


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: checked(a + b), ast.Sub: _ordered(operator.sub), ast.Mult: _multiply,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: _modulo, ast.Pow: _power,
    ast.LShift: _shift_left, ast.RShift: operator.rshift, ast.BitAnd: _ordered(operator.and_),
    ast.BitOr: _ordered(operator.or_), ast.BitXor: _ordered(operator.xor),
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not, ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
}  # fmt: skip
_CONVERSIONS: dict[int, Callable[[Any], Any]] = {-1: lambda value: value, 115: str, 114: repr, 97: ascii}
_CONSTANTS = (int, float, str, bool, type(None), type(...))


class Expressions:
    """Compiles expression nodes to closures; one method per node type, found by name."""

    def expression(self, node: ast.expr) -> Eval:
        build = getattr(self, "e_" + type(node).__name__, None)
        if build is None:
            raise Unsupported(type(node).__name__)
        return build(node)

    def e_Constant(self, node: ast.Constant) -> Eval:
        value = node.value
        if not isinstance(value, _CONSTANTS):
            raise Unsupported(type(value).__name__)
        checked(value)
        return lambda s: value

    def e_Name(self, node: ast.Name) -> Eval:
        name = node.id
        return lambda s: s.get(name)

    def e_NamedExpr(self, node: ast.NamedExpr) -> Eval:
        value, store = self.expression(node.value), self.target(node.target)

        def run(s: Scope) -> Any:
            result = value(s)
            store(s, result)
            return result

        return run

    def e_BinOp(self, node: ast.BinOp) -> Eval:
        operate, left, right = self._binary(node.op), self.expression(node.left), self.expression(node.right)

        def run(s: Scope) -> Any:
            s.fuel.burn()
            return operate(left(s), right(s))

        return run

    def _binary(self, node: ast.operator) -> Callable[[Any, Any], Any]:
        if type(node) not in _BINARY:
            raise Unsupported(type(node).__name__)
        return _BINARY[type(node)]

    def e_UnaryOp(self, node: ast.UnaryOp) -> Eval:
        operate, value = _UNARY[type(node.op)], self.expression(node.operand)
        return lambda s: operate(value(s))

    def e_BoolOp(self, node: ast.BoolOp) -> Eval:
        values = [self.expression(v) for v in node.values]
        stop_at = isinstance(node.op, ast.Or)

        def run(s: Scope) -> Any:
            result = None
            for value in values:
                result = value(s)
                if bool(result) is stop_at:
                    break
            return result

        return run

    def e_Compare(self, node: ast.Compare) -> Eval:
        left = self.expression(node.left)
        rest = [(_COMPARE[type(op)], self.expression(v)) for op, v in zip(node.ops, node.comparators, strict=True)]

        def run(s: Scope) -> Any:
            s.fuel.burn()
            value = left(s)
            result: Any = True
            for compare, other in rest:
                following = other(s)
                result = compare(value, following)
                if not result:
                    return result
                value = following
            return result

        return run

    def e_IfExp(self, node: ast.IfExp) -> Eval:
        test, body, other = self.expression(node.test), self.expression(node.body), self.expression(node.orelse)
        return lambda s: body(s) if test(s) else other(s)

    def e_Attribute(self, node: ast.Attribute) -> Eval:
        value, name = self.expression(node.value), node.attr

        def run(s: Scope) -> Any:
            owner = value(s)
            if isinstance(owner, Namespace):
                if name not in owner.members:
                    raise Unsupported(name)
                return owner.members[name]
            return method(owner, name, s.fuel)

        return run

    def e_Subscript(self, node: ast.Subscript) -> Eval:
        value, index = self.expression(node.value), self.expression(node.slice)

        def run(s: Scope) -> Any:
            s.fuel.burn()
            owner = value(s)
            return None if owner is None or callable(owner) else owner[index(s)]

        return run

    def e_Slice(self, node: ast.Slice) -> Eval:
        parts = [self.expression(p) if p is not None else (lambda s: None) for p in (node.lower, node.upper, node.step)]
        return lambda s: slice(*(part(s) for part in parts))

    def _items(self, nodes: Sequence[ast.expr]) -> Callable[[Scope], list[Any]]:
        parts = [
            (isinstance(n, ast.Starred), self.expression(n.value if isinstance(n, ast.Starred) else n)) for n in nodes
        ]

        def run(s: Scope) -> list[Any]:
            made: list[Any] = []
            for starred, part in parts:
                if starred:
                    made.extend(plain_iterator(part(s), s.fuel))
                else:
                    made.append(part(s))
            return made

        return run

    def e_List(self, node: ast.List) -> Eval:
        return self._items(node.elts)

    def e_Tuple(self, node: ast.Tuple) -> Eval:
        items = self._items(node.elts)
        return lambda s: tuple(items(s))

    def e_Set(self, node: ast.Set) -> Eval:
        items = self._items(node.elts)
        return lambda s: checked_order(set(items(s)))

    def e_Dict(self, node: ast.Dict) -> Eval:
        pairs = [
            (None if k is None else self.expression(k), self.expression(v))
            for k, v in zip(node.keys, node.values, strict=True)
        ]

        def run(s: Scope) -> dict[Any, Any]:
            made: dict[Any, Any] = {}
            for key, value in pairs:
                if key is None:
                    made.update(value(s))
                else:
                    made[key(s)] = value(s)
            return made

        return run

    def e_JoinedStr(self, node: ast.JoinedStr) -> Eval:
        parts = [self.expression(value) for value in node.values]
        return lambda s: checked("".join(part(s) for part in parts))

    def e_FormattedValue(self, node: ast.FormattedValue) -> Eval:
        value = self.expression(node.value)
        spec = self.expression(node.format_spec) if node.format_spec is not None else (lambda s: "")
        if node.conversion not in _CONVERSIONS:
            raise Unsupported("conversion")
        convert = _CONVERSIONS[node.conversion]
        return lambda s: format_value(convert(value(s)), spec(s))

    def e_Lambda(self, node: ast.Lambda) -> Eval:
        value = self.expression(node.body)
        return self.function(node.args, lambda s: Returned(value(s)))

    def _comprehension(
        self, generators: Sequence[ast.comprehension], collect: Callable[[Scope, Any], None]
    ) -> Callable[[Scope], Any]:
        loops = [
            (self.target(g.target), self.expression(g.iter), [self.expression(test) for test in g.ifs])
            for g in generators
        ]

        def iterate(s: Scope, made: Any, depth: int) -> None:
            if depth == len(loops):
                collect(s, made)
                return
            store, values, tests = loops[depth]
            for item in plain_iterator(values(s), s.fuel):
                store(s, item)
                if all(test(s) for test in tests):
                    iterate(s, made, depth + 1)

        def run(s: Scope, made: Any) -> Any:
            iterate(Scope(s, s.fuel), made, 0)
            return made

        return run  # type: ignore[return-value]

    def e_ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> Eval:
        element = self.expression(node.elt)
        loop: Any = self._comprehension(node.generators, lambda s, made: made.append(element(s)))
        return lambda s: loop(s, [])

    e_GeneratorExp = e_ListComp

    def e_SetComp(self, node: ast.SetComp) -> Eval:
        element = self.expression(node.elt)
        loop: Any = self._comprehension(node.generators, lambda s, made: made.add(element(s)))
        return lambda s: checked_order(loop(s, set()))

    def e_DictComp(self, node: ast.DictComp) -> Eval:
        key, value = self.expression(node.key), self.expression(node.value)
        loop: Any = self._comprehension(node.generators, lambda s, made: made.__setitem__(key(s), value(s)))
        return lambda s: loop(s, {})

    def e_Call(self, node: ast.Call) -> Eval:
        function, items = self.expression(node.func), self._items(node.args)
        if any(k.arg is None for k in node.keywords):
            raise Unsupported("**")
        named = [(str(k.arg), self.expression(k.value)) for k in node.keywords]

        def run(s: Scope) -> Any:
            s.fuel.burn()
            called = function(s)
            if not callable(called):
                raise TypeError("object is not callable")
            return checked(called(*items(s), **{name: value(s) for name, value in named}))

        return run

    def function(self, args: ast.arguments, body: Run) -> Eval:
        """Compile a function definition to a closure that creates the function."""
        names = [a.arg for a in (*args.posonlyargs, *args.args)]
        only = [a.arg for a in args.kwonlyargs]
        if args.kwarg is not None:
            raise Unsupported("**")
        defaults = [self.expression(d) for d in args.defaults]
        only_defaults = {n: self.expression(d) for n, d in zip(only, args.kw_defaults, strict=True) if d is not None}
        rest = args.vararg.arg if args.vararg is not None else None

        def make(outer: Scope) -> Callable[..., Any]:
            known = dict(zip(names[len(names) - len(defaults) :], [d(outer) for d in defaults], strict=True))
            known |= {n: d(outer) for n, d in only_defaults.items()}

            def call(*given: Any, **by_name: Any) -> Any:
                s = Scope(outer, outer.fuel)
                s.values.update(known)
                s.values.update(zip(names, given, strict=False))
                s.values.update(by_name)
                if rest is not None:
                    s.values[rest] = given[len(names) :]
                elif len(given) > len(names):
                    raise TypeError("too many arguments")
                if any(n not in s.values for n in (*names, *only)) or any(
                    n not in names and n not in only for n in by_name
                ):
                    raise TypeError("arguments do not fit")
                return entered(s, body)

            return call

        return make

    def target(self, node: ast.expr) -> Callable[[Scope, Any], None]:
        if isinstance(node, ast.Name):
            name = node.id
            return lambda s, value: s.set(name, value)
        if isinstance(node, ast.Subscript):
            owner, index = self.expression(node.value), self.expression(node.slice)

            def store(s: Scope, value: Any) -> None:
                held = owner(s)
                held[index(s)] = value
                checked(held)

            return store
        if isinstance(node, ast.Tuple | ast.List):
            return self._unpack(node.elts)
        raise Unsupported(type(node).__name__)

    def _unpack(self, nodes: Sequence[ast.expr]) -> Callable[[Scope, Any], None]:
        starred = [i for i, n in enumerate(nodes) if isinstance(n, ast.Starred)]
        stores = [self.target(n.value if isinstance(n, ast.Starred) else n) for n in nodes]

        def store(s: Scope, value: Any) -> None:
            items = list(plain_iterator(value, s.fuel))
            if starred:
                head, tail = starred[0], len(stores) - starred[0] - 1
                if len(items) < head + tail:
                    raise ValueError("not enough values to unpack")
                items = [*items[:head], items[head : len(items) - tail], *items[len(items) - tail :]]
            if len(items) != len(stores):
                raise ValueError("values to unpack do not fit")
            for one, item in zip(stores, items, strict=True):
                one(s, item)

        return store
