"""LadybugDB, embedded: the graph of a memory in a folder that one process owns."""

from memstore.graph.ladybug.store import LadybugGraph

__all__ = ["LadybugGraph"]
