"""Fixtures of the graph tests; pytest rewrites the assertions of the conformance suites."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial

import pytest

from memstore.graph.neo4j import Neo4jGraph
from memstore.testing.servers.neo4j import Login

pytest.register_assert_rewrite("memstore.testing.conformance.graph", "memstore.testing.conformance.graph_cypher")


@pytest.fixture
def neo4j_open(neo4j_login: Login) -> Iterator[partial[Neo4jGraph]]:
    """Open the same namespace of the server on each call; it is emptied at the end."""
    namespace = f"test-{uuid.uuid4().hex[:16]}"
    uri, user, password = neo4j_login
    opener = partial(Neo4jGraph.open, uri, user=user, password=password, namespace=namespace)
    yield opener
    with opener() as graph:
        graph.cypher("MATCH (n) DETACH DELETE n", write=True)
