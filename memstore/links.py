"""SIMILAR_TO: each node's k nearest neighbours by cosine, exact and independent of the order of arrival."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LinkSettings:
    """How nodes are linked; recorded in the memory, since a graph under other settings is another graph."""

    k: int = 5
    """Neighbours a node, for queries and thinkings alike."""
    floor: float = 0.0
    """No edge below this cosine."""

    def __str__(self) -> str:
        return f"k={self.k} floor={self.floor:g}"
