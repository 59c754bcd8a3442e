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
from collections.abc import Sequence
from typing import Any

from memstore_gnn.features.behaviour.library import builtins
from memstore_gnn.features.behaviour.limits import Fuel, TooMuch
from memstore_gnn.features.behaviour.modules import modules
from memstore_gnn.features.behaviour.scope import Scope
from memstore_gnn.features.behaviour.statements import Statements

_KEPT = (ast.FunctionDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
"""What is run of a module's top level: its calls, prints and tests do not matter."""


class Interpreter:
    """A program, ready to be called.

    Raises:
        Unsupported: a definition uses what the interpreter does not have.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._program = Statements().block([node for node in tree.body if isinstance(node, _KEPT)])
        self._fuel = Fuel()
        self._fuel.modules = modules(self._fuel)
        self._builtins = builtins(self._fuel) | self._fuel.modules["typing"].members

    def call(self, name: str, arguments: Sequence[Any]) -> Any:
        """Run the program's definitions afresh and call one of its functions with plain values.

        Raises:
            Stop: the interpreter gave up.
            Exception: what the program raised.
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
