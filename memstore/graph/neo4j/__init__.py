"""Graph of a memory in one namespace of a Neo4j database, shared by several writers."""

from memstore.graph.neo4j.store import Neo4jGraph

__all__ = ["Neo4jGraph"]
