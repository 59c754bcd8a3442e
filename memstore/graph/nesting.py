"""A bound on the brackets of a user's Cypher, which is checked before a database parses it."""

from __future__ import annotations

from collections.abc import Iterable

from memstore.errors import InputError

MAX_NESTING = 100
"""Brackets within each other. LadybugDB parses 100 objects in each other in under a second, 300 in over 20 s. Neo4j
parses 100 in 0.2 s, and closed the connection at 300 lists in each other."""


def check_nesting(tokens: Iterable[str]) -> None:
    """Refuse brackets that are nested too deep.

    Args:
        tokens: of the query; a quoted text is one.

    Raises:
        InputError: there are more than `MAX_NESTING` within each other.
    """
    depth = 0
    for token in tokens:
        depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
        if depth > MAX_NESTING:
            raise InputError(
                f"the query has more than {MAX_NESTING} brackets within each other; write it with fewer, or split it "
                "with WITH"
            )
