"""Neo4j, a server: the graph of a memory in a namespace of a database, written to by several people at once."""

from memstore.graph.neo4j.store import Neo4jGraph

__all__ = ["Neo4jGraph"]
