"""Compile statements to closures, which return a signal if the block ends early."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from memstore_gnn.programs.expressions import Expressions
from memstore_gnn.programs.library import plain_iterator
from memstore_gnn.programs.limits import Stop, Unsupported, checked
from memstore_gnn.programs.scope import Returned, Run, Scope

_BREAK, _CONTINUE = object(), object()


class Statements(Expressions):
    """Compiles statement nodes to closures; one method per node type, found by name."""

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
        return lambda s: Returned(value(s))

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
            known = s.fuel.modules
            for name, module in names:
                if module not in known:
                    raise Unsupported(module)
                s.set(name, known[module])

        return run

    def s_ImportFrom(self, node: ast.ImportFrom) -> Run:
        def run(s: Scope) -> None:
            known = s.fuel.modules.get(node.module or "")
            for alias in node.names:
                if known is None or (alias.name != "*" and alias.name not in known.members):
                    raise Unsupported(f"{node.module}.{alias.name}")
                wanted = known.members if alias.name == "*" else {alias.asname or alias.name: known.members[alias.name]}
                for name, member in wanted.items():
                    s.set(name, member)

        return run
