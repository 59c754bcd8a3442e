"""The suites are a library: pytest is told to explain their assertions too."""

import pytest

pytest.register_assert_rewrite("memstore.testing.graph_conformance", "memstore.testing.graph_cypher_conformance")
