"""Scopes of a running program, and the calls of its functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memstore_gnn.programs.limits import DEPTH, Fuel, TooMuch


class Returned:
    """Signal of a `return` statement, with its value."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Scope:
    """Names of one call, with the enclosing scopes as parents."""

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
        self.outer.get(name, self).values[name] = value


Eval = Callable[[Scope], Any]
"""A compiled expression."""
Run = Callable[[Scope], Any]
"""A compiled statement. Returns None, or a signal that ends the block (`Returned`, break or continue)."""


def entered(s: Scope, body: Run) -> Any:
    """Run a function's body in its scope and return its value."""
    s.fuel.burn()
    s.fuel.depth += 1
    if s.fuel.depth > DEPTH:
        s.fuel.depth = 0
        raise TooMuch("depth")
    try:
        signal = body(s)
    finally:
        s.fuel.depth -= 1
    return signal.value if isinstance(signal, Returned) else None
