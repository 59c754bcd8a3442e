"""A misspelt label, relationship type or property on Neo4j is an error, not an empty result."""

from __future__ import annotations

from functools import partial

import pytest

from memstore.errors import InputError
from memstore.graph.neo4j import Neo4jGraph
from memstore.testing.graph_blocks import Rollout, make_block


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("MATCH (t:Thinkng) RETURN t", r"Thinkng, did you mean Thinking\?"),
        ("MATCH (t:Querry) RETURN count(t)", r"did you mean Query\?"),
        ("MATCH (q:Query)-[:GENERATE]->(t) RETURN t.id", r"did you mean GENERATES\?"),
        ("MATCH (q:Query) RETURN q.txt", r"Query has no property txt, did you mean text\?"),
        ("MATCH (t:Thinking) WHERE t.rewrd > 0.5 RETURN t.id", r"did you mean reward\?"),
    ],
)
def test_a_misspelt_name_is_refused(neo4j_open: partial[Neo4jGraph], query: str, words: str) -> None:
    with neo4j_open() as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4", 1.0)))
        with pytest.raises(InputError, match=words):
            graph.cypher(query)


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("MATCH (t:Thinking) RETURN count(t)", [(1,)]),
        ("MATCH (m:RewardModel) RETURN m.version", []),  # in the schema, but not in this memory
        ("MATCH (t:Thinking)-[:SCORED_BY]->(m) RETURN m.id", []),
        ("MATCH (t:Thinking) WITH {other: t.id} AS pair RETURN pair.other", [("t1",)]),  # a key of a map
        ("MATCH (m:RewardModel) WITH {other: m.snapshot} AS pair RETURN pair.other", []),  # a key, and no model yet
        ("RETURN 'a:Thinkng' AS text", [("a:Thinkng",)]),
    ],
)
def test_other_names_are_allowed(neo4j_open: partial[Neo4jGraph], query: str, rows: list[object]) -> None:
    with neo4j_open() as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4", 1.0)))
        assert list(graph.cypher(query).rows) == rows
