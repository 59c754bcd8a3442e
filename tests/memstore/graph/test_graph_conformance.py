"""The conformance suites on the in-memory graph and on LadybugDB."""

from __future__ import annotations

from pathlib import Path

import pytest

from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph import GraphConformance
from memstore.testing.conformance.graph_cypher import GraphCypherConformance
from memstore.testing.conformance.graph_fixtures import OpenGraph
from memstore.testing.doubles.graph import GraphContent, MemoryGraph


class TestMemoryGraph(GraphConformance):
    @pytest.fixture
    def open_graph(self) -> OpenGraph:
        content = GraphContent()
        return lambda: MemoryGraph(content)


class TestLadybugGraph(GraphConformance):
    @pytest.fixture
    def open_graph(self, tmp_path: Path) -> OpenGraph:
        return lambda: LadybugGraph.open(tmp_path / "graph", create=True)


class TestLadybugCypher(GraphCypherConformance):
    @pytest.fixture
    def open_graph(self, tmp_path: Path) -> OpenGraph:
        return lambda: LadybugGraph.open(tmp_path / "graph", create=True)
