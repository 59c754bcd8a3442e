"""The conformance suites on a Neo4j server, one namespace per test."""

from __future__ import annotations

from functools import partial

import pytest

from memstore.graph.neo4j import Neo4jGraph
from memstore.testing.conformance.graph import GraphConformance
from memstore.testing.conformance.graph_cypher import GraphCypherConformance
from memstore.testing.conformance.graph_fixtures import OpenGraph


class Neo4jFixtures:
    """Open one namespace of the server, and empty it at the end."""

    @pytest.fixture
    def open_graph(self, neo4j_open: partial[Neo4jGraph]) -> OpenGraph:
        return neo4j_open


class TestNeo4jGraph(Neo4jFixtures, GraphConformance):
    pass


class TestNeo4jCypher(Neo4jFixtures, GraphCypherConformance):
    pass
