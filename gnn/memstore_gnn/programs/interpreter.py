"""Interpret a subset of Python: functions, loops, comprehensions, numbers, strings and containers.

A syntax tree is compiled to closures that run on plain values. Python's own `exec` and `eval` are not used. A program
reaches only the names in `library` and `modules`: it has no other imports, no attributes except listed methods of
plain values, no classes, no input and no output. Every expression and loop iteration uses up a step, so that a run
ends at the same point on every machine.

Differences from Python: generators are lists, `print` does nothing, and a local that is read before its assignment
is looked up in the enclosing scopes. Sets may hold only values whose hash does not depend on an object's address.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from memstore_gnn.programs.library import builtins
from memstore_gnn.programs.limits import Fuel, TooMuch
from memstore_gnn.programs.modules import modules
from memstore_gnn.programs.scope import Scope
from memstore_gnn.programs.statements import Statements

_KEPT = (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
"""Top-level statements that are run; calls, prints and tests are skipped."""


class Interpreter:
    """A compiled program.

    Raises:
        Unsupported: a definition uses a feature that the interpreter does not support.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._program = Statements().block([node for node in tree.body if isinstance(node, _KEPT)])
        self._fuel = Fuel()
        self._fuel.modules = modules(self._fuel)
        self._builtins = builtins(self._fuel) | self._fuel.modules["typing"].members

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        """Run the definitions in a new scope and call one of the functions with plain values.

        Raises:
            Stop: the program uses an unsupported feature or is over a limit.
            Exception: the program's own exception.
        """
        self._fuel.refill()
        top = Scope(None, self._fuel)
        top.values.update(self._builtins)
        scope = Scope(top, self._fuel)
        try:
            self._program(scope)
            return scope.get(name)(*arguments)
        except RecursionError:
            raise TooMuch("depth") from None
