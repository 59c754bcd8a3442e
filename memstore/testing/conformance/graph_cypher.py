"""Conformance suite of Cypher: the limits of `cypher()`, and every named query with its result.

    class TestMyCypher(GraphCypherConformance):
        @pytest.fixture
        def open_graph(self, tmp_path): ...             # as in GraphConformance

The named queries run on the memory of `named_query_memory`.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pytest

from memstore.errors import InputError, QueryTimeout
from memstore.graph.nesting import MAX_NESTING
from memstore.graph.protocol import GraphStore, ScoreBatch
from memstore.testing.conformance.graph_blocks import (
    NOW,
    THREE,
    Rollout,
    dump,
    make_block,
    make_influences,
    make_labels,
    make_links,
)
from memstore.testing.conformance.graph_fixtures import GraphFixtures
from memstore.testing.conformance.named_query_memory import ANSWERS, ROLLOUTS, fill
from memstore_schema.columns import NodeLabel
from memstore_schema.queries import named_queries


def asked(
    graph: GraphStore, query: str, parameters: Mapping[str, Any] | None = None, **options: Any
) -> list[tuple[Any, ...]]:
    """All rows of a query."""
    return list(graph.cypher(query, parameters, **options).rows)


def same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> bool:
    """Equal rows, floats up to rounding."""
    return len(found) == len(expected) and all(
        len(a) == len(b)
        and all(
            math.isclose(x, y, rel_tol=1e-6) if isinstance(x, float) and isinstance(y, float) else x == y
            for x, y in zip(a, b, strict=True)
        )
        for a, b in zip(found, expected, strict=True)
    )


class GraphCypherConformance(GraphFixtures):
    """Subclass it and provide `open_graph`."""

    @pytest.mark.parametrize("query", named_queries(), ids=lambda query: query.name)
    def test_a_named_query_returns_its_result(self, graph: GraphStore, query: Any) -> None:
        fill(graph)
        parameters, expected = ANSWERS[query.name]
        found = asked(graph, query.text, {**query.parameters, **parameters}, timeout_s=60)
        assert same(found, expected), found

    @pytest.mark.parametrize("query", named_queries(), ids=lambda query: query.name)
    def test_the_row_order_of_a_named_query_does_not_depend_on_the_store(self, graph: GraphStore, query: Any) -> None:
        fill(graph, ROLLOUTS[::-1])
        parameters, expected = ANSWERS[query.name]
        result = graph.cypher(query.text, {**query.parameters, **parameters}, timeout_s=60)
        found = list(result.rows)
        assert same(found, expected), found
        names = re.findall(r"\w+", query.text.rpartition("ORDER BY")[2].partition("LIMIT")[0])
        keys = [at for at, column in enumerate(result.columns) if column in names]
        assert len({tuple(row[at] for at in keys) for row in found}) == len(found), "rows of equal rank"

    @pytest.mark.parametrize("query", named_queries(), ids=lambda query: query.name)
    def test_a_named_query_runs_on_an_empty_memory(self, graph: GraphStore, query: Any) -> None:
        assert asked(graph, query.text, query.parameters) == []

    def test_the_history_of_a_query_shows_flips_and_extinct_answers(self, graph: GraphStore) -> None:
        steps = {None: "", 1: "445", 2: "455", 3: "555", 10: "67"}
        rollouts = [Rollout(f"t{step}-{i}", "q1", a, step=step) for step, of in steps.items() for i, a in enumerate(of)]
        blank = Rollout("t0", "q1", None, 0.0)
        graph.write_block(make_block(*rollouts, blank, Rollout("t1", "q2", "4", step=1)))
        history = next(query for query in named_queries() if query.name == "history")
        found = asked(graph, history.text, {**history.parameters, "query": "q1"})
        assert [row[2:6] for row in found] == [
            (None, 1, 0, None),
            (1, 3, 2, "4"),
            (2, 3, 2, "5"),
            (3, 3, 1, "5"),
            (10, 2, 2, "6"),  # of two answers with as many votes, the first
        ]
        assert found[0][6:] == (1, 0.0, None)

    def test_what_is_remembered_of_one_query(self, graph: GraphStore) -> None:
        fill(graph)
        remembered = next(query for query in named_queries() if query.name == "remembered")
        found = asked(graph, remembered.text, {**remembered.parameters, "query": "q4"})
        assert [row[2:5] for row in found] == [("yes", 1.0, "person")]

    @pytest.mark.parametrize("source", ["remembered", "predicted"])
    def test_a_label_propagates_by_the_verdict_on_its_answer(self, graph: GraphStore, source: str) -> None:
        fill(graph)
        graph.set_labels(make_labels({"t4": 1.0}))
        scores = pa.table({"id": ["t5"], "probability": [1.0], "reward": [1.0], "source": [source]})
        graph.append_scores(ScoreBatch({"id": "m3", "version": 3}, scores, {"scored_at": NOW}))
        graph.replace_influences(make_influences("m3", {"t5": {"q2=7": 1.5}}))
        propagation = next(query for query in named_queries() if query.name == "propagation")
        found = asked(graph, propagation.text, {**propagation.parameters, "node": "t4"})
        by_answer = [row[:4] for row in found if row[1] == "q2=7"]
        assert by_answer == ([(1, "q2=7", "t5", 1.5)] if source == "remembered" else [])

    def test_columns_rows_and_parameters(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        result = graph.cypher(
            "MATCH (t:Thinking) WHERE t.id IN $ids RETURN t.id AS id, t.reward AS reward ORDER BY id",
            {"ids": ["t1", "t3"], "not used": 1},
        )
        assert result.columns == ["id", "reward"]
        assert list(result.rows) == [("t1", 1.0), ("t3", None)]

    def test_values_are_plain(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        graph.replace_links(make_links(NodeLabel.THINKING, {"t1": {"t2": 0.5}}))
        row = asked(
            graph,
            "MATCH (t:Thinking)-[l:LEADS_TO]->(a:Answer) WHERE t.id = 't1' "
            "RETURN a, l, t.created_at AS at, [1, 2] AS numbers, {one: 1, two: 'b'} AS pair, true AS yes, "
            "sum(size(t.text)) AS size, null AS nothing, 0.5 AS half",
        )[0]
        assert row == (
            {
                "id": "q1=4",
                "text": "4",
                "value": "4",
                "verdict": 1.0,
                "verdict_source": "ground_truth",
                "verdict_at": NOW,
            },
            {"text": "The answer is 4."},
            NOW,
            [1, 2],
            {"one": 1, "two": "b"},
            True,
            len("so it must be"),
            None,
            0.5,
        )
        assert type(row[2]) is dt.datetime
        assert row[2].tzinfo is not None
        assert type(row[6]) is int
        thinking = asked(graph, "MATCH (t:Thinking) WHERE t.id = 't3' RETURN t")[0][0]
        assert thinking == {
            "id": "t3",
            "text": "so it must be",
            "dataset": "sums",
            "policy": "small",
            "run": "first",
            "created_at": NOW,
        }

    @pytest.mark.parametrize("name", ["IN", "`IN`"])
    def test_the_names_of_a_query_need_no_quotes(self, graph: GraphStore, name: str) -> None:
        graph.write_block(make_block(*THREE, datasets={"q2": "IN"}))
        found = asked(
            graph,
            f"MATCH (q:Query)-[i:{name}]->(d:Dataset) WHERE d.name IN ['sums', ':IN'] OR d.name = 'IN' "
            "RETURN q.id AS id, d.name AS name, i.key AS key ORDER BY id // [:IN]",
        )
        assert found == [("q1", "sums", None), ("q2", "IN", None)]

    @pytest.mark.parametrize(
        "items",
        ["1 AS a, 2 AS a", "r.id, r.policy, r.id", "count(*), count(*)", "1 AS `a`, 2 AS a", "DISTINCT 1, 2, 1"],
    )
    def test_two_columns_of_one_name_are_refused_before_anything_is_written(
        self, graph: GraphStore, items: str
    ) -> None:
        graph.write_block(make_block(*THREE))
        before = dump(graph)
        for query, write in (("MATCH (r:Run)", False), ("MATCH (r:Run) SET r.policy = 'x'", True)):
            with pytest.raises(InputError, match="columns of the result .* its own name with AS"):
                graph.cypher(f"{query} RETURN {items}", write=write)
        assert dump(graph) == before
        assert asked(graph, "WITH 1 AS a RETURN a, a AS b, a AS `A`, 'a' AS c") == [(1, 1, 1, "a")]

    @pytest.mark.parametrize("brackets", ["()", "[]", ("abs(", ")"), ("{a: ", "}"), ("COUNT { MATCH q WHERE ", "}")])
    @pytest.mark.parametrize("write", [False, True])
    def test_brackets_that_are_nested_too_deep_are_refused_before_they_are_parsed(
        self, graph: GraphStore, brackets: Sequence[str], write: bool
    ) -> None:
        for depth in (MAX_NESTING + 1, 3_000):
            started = time.monotonic()
            with pytest.raises(InputError, match="brackets within each other; write it with fewer"):
                graph.cypher(f"RETURN {brackets[0] * depth}1{brackets[1] * depth} AS a", write=write)
            assert time.monotonic() - started < 10
        text = "[" * 3_000
        assert asked(graph, f"RETURN {'(' * 50}1{')' * 50} AS a, '{text}' AS b // {text}") == [(1, text)]

    def test_parameters_of_every_kind(self, graph: GraphStore) -> None:
        values = ["it's", "", 7, -(2**62), 300, 0.1, True, None, NOW, ["a", "b"], [1.5, 2.5], []]
        for value in values:
            assert asked(graph, "RETURN $value AS value", {"value": value}) == [(value,)]

    @pytest.mark.parametrize("value", [2**70, "\ud800", object()], ids=["wide integer", "lone surrogate", "object"])
    def test_parameters_that_cannot_be_passed_are_refused(self, graph: GraphStore, value: object) -> None:
        with pytest.raises(InputError):
            graph.cypher("RETURN $value AS value", {"value": value})

    @pytest.mark.parametrize(
        "query",
        [
            "CREATE (:Query {id: 'x'})",
            "MERGE (:Query {id: 'x'})",
            "MATCH (t:Thinking) SET t.reward = 1.0",
            "MATCH (t:Thinking) DETACH DELETE t",
            "MATCH (t:Thinking)-[l:LEADS_TO]->() DELETE l",
            "MATCH (q:Query), (t:Thinking) CREATE (q)-[:GENERATES]->(t)",
            "UNWIND [1] AS x CREATE (:Query {id: 'x'})",
        ],
    )
    def test_a_query_that_writes_is_refused_unless_allowed(self, graph: GraphStore, query: str) -> None:
        graph.write_block(make_block(*THREE))
        before = dump(graph)
        with pytest.raises(InputError, match="write=True"):
            graph.cypher(query)
        assert dump(graph) == before
        asked(graph, query, write=True)
        assert dump(graph) != before

    def test_two_statements_at_once_are_refused(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*THREE))
        before = dump(graph)
        for query in ("COMMIT; CREATE (:Query {id: 'x'})", "RETURN 1; MATCH (t:Thinking) DETACH DELETE t"):
            with pytest.raises(InputError):
                graph.cypher(query)
        assert dump(graph) == before

    @pytest.mark.parametrize(
        "query", ["", "MATCH (t:Thinking RETURN t", "RETURN nope(1)", "hello", "RETURN $forgotten"]
    )
    def test_an_invalid_query_is_refused_in_one_line(self, graph: GraphStore, query: str) -> None:
        with pytest.raises(InputError) as refused:
            graph.cypher(query)
        assert "\n" not in str(refused.value)

    def test_a_query_past_its_time_limit_ends_and_the_store_stays_usable(self, graph: GraphStore) -> None:
        endless = (
            "UNWIND range(1, 100000) AS a UNWIND range(1, 100000) AS b WITH a, b WHERE a * b % 7 = 3 RETURN count(*)"
        )
        with pytest.raises(QueryTimeout, match=r"0\.2 s"):
            asked(graph, endless, timeout_s=0.2)
        assert asked(graph, "RETURN 1 AS one", timeout_s=30) == [(1,)]

    def test_rows_may_be_abandoned_and_the_graph_written_meanwhile(self, graph: GraphStore) -> None:
        graph.write_block(make_block(*(Rollout(f"t{i}", "q1", "4") for i in range(50))))
        rows = graph.cypher("MATCH (t:Thinking) RETURN t.id AS id ORDER BY id").rows
        assert next(rows) == ("t0",)
        graph.write_block(make_block(Rollout("t99", "q1", "4")))
        graph.checkpoint()
        assert len(list(rows)) == 49
        graph.cypher("MATCH (t:Thinking) RETURN t.id AS id")
        graph.write_block(make_block(Rollout("t98", "q1", "4")))
        assert asked(graph, "MATCH (t:Thinking) RETURN count(t.id) AS n") == [(52,)]
