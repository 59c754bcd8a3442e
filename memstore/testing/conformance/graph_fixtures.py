"""Fixtures of the conformance suites of graph stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from memstore.graph.protocol import GraphStore

OpenGraph = Callable[[], GraphStore]


class GraphFixtures:
    """Fixtures that both suites build on; provide `open_graph`."""

    @pytest.fixture
    def open_graph(self) -> OpenGraph:
        """Opens the same graph each time, and creates it if it does not exist."""
        raise NotImplementedError

    @pytest.fixture
    def opener(self, open_graph: OpenGraph) -> Iterator[OpenGraph]:
        """`open_graph`, with the opened graphs closed after the test."""
        opened: list[GraphStore] = []

        def opener() -> GraphStore:
            opened.append(open_graph())
            return opened[-1]

        yield opener
        for graph in opened:
            graph.close()

    @pytest.fixture
    def graph(self, opener: OpenGraph) -> GraphStore:
        """An empty graph."""
        return opener()
