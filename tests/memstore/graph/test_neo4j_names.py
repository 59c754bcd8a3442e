"""A misspelt label, relationship type or property on Neo4j is an error, not an empty result."""

from __future__ import annotations

from functools import partial

import pytest

from memstore.errors import InputError
from memstore.graph.neo4j import Neo4jGraph
from memstore.graph.neo4j.connection import Statements
from memstore.testing.conformance.graph_blocks import Rollout, make_block


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("MATCH (t:Thinkng) RETURN t", r"Thinkng, did you mean Thinking\?"),
        ("MATCH (t:Querry) RETURN count(t)", r"did you mean Query\?"),
        ("MATCH (q:Query)-[:GENERATE]->(t) RETURN t.id", r"did you mean GENERATES\?"),
        ("MATCH (q:Query) RETURN q.txt", r"Query has no property txt, did you mean text\?"),
        ("MATCH (t:Thinking) WHERE t.rewrd > 0.5 RETURN t.id", r"did you mean reward\?"),
        (
            "UNWIND range(1, 2500) AS x MATCH (q:Query) RETURN q.txt",
            r"did you mean text\?",
        ),  # not read at once
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


@pytest.mark.parametrize(("count", "statements"), [(10, 1), (2500, 2)])
def test_names_are_checked_with_the_result(
    neo4j_open: partial[Neo4jGraph], monkeypatch: pytest.MonkeyPatch, count: int, statements: int
) -> None:
    """Only a result that is longer than what is read at once costs a second statement, and all of its rows arrive."""
    with neo4j_open() as graph:
        sent, send = [], Statements.result
        monkeypatch.setattr(
            Statements, "result", lambda self, query, values: (sent.append(query), send(self, query, values))[1]
        )
        found = graph.cypher("UNWIND range(1, $count) AS x WITH {other: x} AS pair RETURN pair.other", {"count": count})
        assert [x for (x,) in found.rows] == list(range(1, count + 1))
        assert len(sent) == statements
