"""Parse Python that a model wrote: no warnings, no exceptions, bounded depth."""

from __future__ import annotations

import ast
import warnings

PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError)
"""What parsing, unparsing and `literal_eval` raise for text that is not a program or exceeds a limit of Python."""
PARSE_LIMIT = 50_000
"""Characters; a longer source is not parsed."""


def parsed(source: str) -> ast.Module | None:
    """Parse a source without showing warnings; None if it does not parse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except PARSE_ERRORS:
            return None


def depth(tree: ast.AST, limit: int) -> int:
    """Return the depth of a tree, counted without recursion up to `limit + 1`."""
    level: list[ast.AST] = [tree]
    levels = 0
    while level and levels <= limit:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        levels += 1
    return levels
