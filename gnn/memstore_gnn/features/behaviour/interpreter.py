"""A small interpreter of Python's plain core: functions, loops, comprehensions, numbers, strings and containers.

A syntax tree is compiled to closures and run on the values of `library`. Nothing is ever passed to Python's own
`exec` or `eval`, and a program cannot name anything that `library` does not hand out: there are no imports beyond
a fixed list of pure functions, no attributes beyond listed methods of plain values, no classes, no input or output.
Every expression and loop turn burns fuel, so that a run ends the same way on every machine.

Differences from Python that a program can notice: generators are lists, `print` does nothing, a local read before
it is written is looked up outside.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

from memstore_gnn.features.behaviour.library import Namespace, builtins, format_value, method, modules, plain_iterator
from memstore_gnn.features.behaviour.limits import (
    DEPTH,
    Fuel,
    Stop,
    TooMuch,
    Unsupported,
    check_power,
    check_product,
    check_shift,
    checked,
)

Eval = Callable[["Scope"], Any]
Run = Callable[["Scope"], Any]

_BREAK, _CONTINUE = object(), object()


class _Return:
    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Scope:
    """Names of one call, inside those around it."""

    __slots__ = ("fuel", "outer", "parent", "values")

    def __init__(self, parent: Scope | None, fuel: Fuel) -> None:
        self.parent = parent
        self.fuel = fuel
        self.values: dict[str, Any] = {}
        self.outer: dict[str, Scope] = {}

    def get(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        raise NameError(f"name {name!r} is not defined")

    def set(self, name: str, value: Any) -> None:
        (self.outer[name] if name in self.outer else self).values[name] = value


def _modulo(a: Any, b: Any) -> Any:
    if isinstance(a, str) and re.search(r"\d{3}|\*", a):
        raise Unsupported("format")
    return a % b


def _multiply(a: Any, b: Any) -> Any:
    check_product(a, b)
    return a * b


def _power(a: Any, b: Any) -> Any:
    check_power(a, b)
    return a**b


def _shift_left(a: Any, b: Any) -> Any:
    check_shift(a, b)
    return a << b


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: checked(a + b), ast.Sub: operator.sub, ast.Mult: _multiply, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: _modulo, ast.Pow: _power, ast.LShift: _shift_left,
    ast.RShift: operator.rshift, ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not, ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_, ast.Invert: operator.invert,
}  # fmt: skip
_CONSTANTS = (int, float, str, bool, type(None), type(...))


class Compiler:
    """Turns nodes into closures; one method a node type, found by name."""

    def expression(self, node: ast.expr) -> Eval:
        build = getattr(self, "e_" + type(node).__name__, None)
        if build is None:
            raise Unsupported(type(node).__name__)
        return build(node)

    def block(self, nodes: Sequence[ast.stmt]) -> Run:
        runs = [self.statement(node) for node in nodes]

        def run(s: Scope) -> Any:
            for step in runs:
                signal = step(s)
                if signal is not None:
                    return signal
            return None

        return run

    def statement(self, node: ast.stmt) -> Run:
        build = getattr(self, "s_" + type(node).__name__, None)
        if build is None:
            raise Unsupported(type(node).__name__)
        return build(node)

    # Expressions

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
        return lambda s: set(items(s))

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
        convert = {115: str, 114: repr, 97: ascii}.get(node.conversion, lambda v: v)
        return lambda s: format_value(convert(value(s)), spec(s))

    def e_Lambda(self, node: ast.Lambda) -> Eval:
        value = self.expression(node.body)
        return self.function(node.args, lambda s: _Return(value(s)))

    def _comprehension(
        self, generators: Sequence[ast.comprehension], collect: Callable[[Scope, Any], None]
    ) -> Callable[[Scope], Any]:
        loops = [
            (self.target(g.target), self.expression(g.iter), [self.expression(test) for test in g.ifs])
            for g in generators
        ]

        def turn(s: Scope, made: Any, depth: int) -> None:
            if depth == len(loops):
                collect(s, made)
                return
            store, values, tests = loops[depth]
            for item in plain_iterator(values(s), s.fuel):
                store(s, item)
                if all(test(s) for test in tests):
                    turn(s, made, depth + 1)

        def run(s: Scope, made: Any) -> Any:
            turn(Scope(s, s.fuel), made, 0)
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
        return lambda s: loop(s, set())

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
        """The closure that makes a function of `body`."""
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
                return _entered(s, body)

            return call

        return make

    # Targets

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

    # Statements

    def s_Expr(self, node: ast.Expr) -> Run:
        value = self.expression(node.value)

        def run(s: Scope) -> None:
            s.fuel.burn()
            value(s)

        return run

    def s_Pass(self, node: ast.Pass) -> Run:
        return lambda s: None

    def s_Assign(self, node: ast.Assign) -> Run:
        value, stores = self.expression(node.value), [self.target(t) for t in node.targets]

        def run(s: Scope) -> None:
            s.fuel.burn()
            result = value(s)
            for store in stores:
                store(s, result)

        return run

    def s_AnnAssign(self, node: ast.AnnAssign) -> Run:
        if node.value is None:
            return lambda s: None
        value, store = self.expression(node.value), self.target(node.target)
        return lambda s: store(s, value(s))

    def s_AugAssign(self, node: ast.AugAssign) -> Run:
        operate, value = self._binary(node.op), self.expression(node.value)
        load = self.expression(ast.parse(ast.unparse(node.target), mode="eval").body)
        store = self.target(node.target)

        def run(s: Scope) -> None:
            s.fuel.burn()
            held, other = load(s), value(s)
            if isinstance(held, list) and isinstance(node.op, ast.Add):
                held.extend(plain_iterator(other, s.fuel))
                store(s, checked(held))
            else:
                store(s, operate(held, other))

        return run

    def s_Return(self, node: ast.Return) -> Run:
        value = self.expression(node.value) if node.value is not None else (lambda s: None)
        return lambda s: _Return(value(s))

    def s_If(self, node: ast.If) -> Run:
        test, body, other = self.expression(node.test), self.block(node.body), self.block(node.orelse)
        return lambda s: body(s) if test(s) else other(s)

    def s_For(self, node: ast.For) -> Run:
        store, values = self.target(node.target), self.expression(node.iter)
        body, other = self.block(node.body), self.block(node.orelse)

        def run(s: Scope) -> Any:
            for item in plain_iterator(values(s), s.fuel):
                store(s, item)
                signal = body(s)
                if signal is _BREAK:
                    return None
                if signal is not None and signal is not _CONTINUE:
                    return signal
            return other(s)

        return run

    def s_While(self, node: ast.While) -> Run:
        test, body, other = self.expression(node.test), self.block(node.body), self.block(node.orelse)

        def run(s: Scope) -> Any:
            while test(s):
                s.fuel.burn()
                signal = body(s)
                if signal is _BREAK:
                    return None
                if signal is not None and signal is not _CONTINUE:
                    return signal
            return other(s)

        return run

    def s_Break(self, node: ast.Break) -> Run:
        return lambda s: _BREAK

    def s_Continue(self, node: ast.Continue) -> Run:
        return lambda s: _CONTINUE

    def s_FunctionDef(self, node: ast.FunctionDef) -> Run:
        make = self.function(node.args, self.block(node.body))
        return lambda s: s.set(node.name, make(s))

    def s_Global(self, node: ast.Global) -> Run:
        def run(s: Scope) -> None:
            top = s
            while top.parent is not None and top.parent.parent is not None:
                top = top.parent
            s.outer.update(dict.fromkeys(node.names, top))

        return run

    def s_Nonlocal(self, node: ast.Nonlocal) -> Run:
        def run(s: Scope) -> None:
            for name in node.names:
                scope = s.parent
                while scope is not None and name not in scope.values:
                    scope = scope.parent
                if scope is None or scope.parent is None:
                    raise NameError(name)
                s.outer[name] = scope

        return run

    def s_Delete(self, node: ast.Delete) -> Run:
        stores = [
            (self.expression(t.value), self.expression(t.slice)) for t in node.targets if isinstance(t, ast.Subscript)
        ]

        def run(s: Scope) -> None:
            for owner, index in stores:
                del owner(s)[index(s)]

        return run

    def s_Assert(self, node: ast.Assert) -> Run:
        test = self.expression(node.test)

        def run(s: Scope) -> None:
            if not test(s):
                raise AssertionError

        return run

    def s_Raise(self, node: ast.Raise) -> Run:
        made = self.expression(node.exc) if node.exc is not None else (lambda s: RuntimeError())

        def run(s: Scope) -> None:
            error = made(s)
            error = error() if isinstance(error, type) else error
            if not isinstance(error, Exception) or isinstance(error, Stop):
                raise TypeError("exceptions must derive from BaseException")
            raise error

        return run

    def s_Try(self, node: ast.Try) -> Run:
        body, other, final = self.block(node.body), self.block(node.orelse), self.block(node.finalbody)
        handlers = [(self.expression(h.type) if h.type else None, h.name, self.block(h.body)) for h in node.handlers]

        def guarded(s: Scope) -> Any:
            try:
                signal = body(s)
            except Stop:
                raise
            except Exception as error:
                for kinds, name, handle in handlers:
                    if kinds is None or isinstance(error, kinds(s)):
                        if name is not None:
                            s.set(name, error)
                        return handle(s)
                raise
            return other(s) if signal is None else signal

        def run(s: Scope) -> Any:
            try:
                signal = guarded(s)
            except Stop:
                raise
            except Exception:
                ended = final(s)
                if ended is not None:
                    return ended
                raise
            ended = final(s)
            return signal if ended is None else ended

        return run

    def s_Import(self, node: ast.Import) -> Run:
        names = [(alias.asname or alias.name, alias.name) for alias in node.names]

        def run(s: Scope) -> None:
            known = modules(s.fuel)
            for name, module in names:
                if module not in known:
                    raise Unsupported(module)
                s.set(name, known[module])

        return run

    def s_ImportFrom(self, node: ast.ImportFrom) -> Run:
        def run(s: Scope) -> None:
            known = modules(s.fuel).get(node.module or "")
            for alias in node.names:
                if known is None or (alias.name != "*" and alias.name not in known.members):
                    raise Unsupported(f"{node.module}.{alias.name}")
                wanted = known.members if alias.name == "*" else {alias.asname or alias.name: known.members[alias.name]}
                for name, member in wanted.items():
                    s.set(name, member)

        return run


def _entered(s: Scope, body: Run) -> Any:
    s.fuel.burn()
    s.fuel.depth += 1
    if s.fuel.depth > DEPTH:
        s.fuel.depth = 0
        raise TooMuch("depth")
    try:
        signal = body(s)
    finally:
        s.fuel.depth -= 1
    return signal.value if isinstance(signal, _Return) else None


def load(tree: ast.Module) -> Run:
    """Compile the definitions, imports and assignments of a module's top level; its other statements do not matter.

    Raises:
        Unsupported: a definition uses what the interpreter does not have.
    """
    kept = (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    return Compiler().block([node for node in tree.body if isinstance(node, kept)])


def call(program: Run, name: str, arguments: Sequence[Any]) -> Any:
    """Run a program's definitions and call one of its functions with plain values.

    Raises:
        Stop: the interpreter gave up.
        Exception: what the program raised.
    """
    fuel = Fuel()
    top = Scope(None, fuel)
    top.values.update(builtins(fuel))
    scope = Scope(top, fuel)
    try:
        program(scope)
        return scope.get(name)(*arguments)
    except RecursionError:
        raise TooMuch("depth") from None
