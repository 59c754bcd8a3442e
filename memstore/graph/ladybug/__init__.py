"""LadybugDB, embedded: the graph of a memory in a folder that one process owns."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from memstore.graph.ladybug.store import LadybugGraph

__all__ = ["LadybugGraph"]


def __getattr__(name: str) -> object:
    """Load the store on first use, so that the query process does not import pyarrow (PEP 562)."""
    if name != "LadybugGraph":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from memstore.graph.ladybug.store import LadybugGraph

    return LadybugGraph
