"""Parameters of a query on LadybugDB: what has no type of its own works, and what it would change is refused."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from memstore.errors import InputError
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_blocks import Rollout, make_block


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LadybugGraph]:
    with LadybugGraph.open(tmp_path_factory.mktemp("parameters") / "graph", create=True) as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4"), Rollout("t2", "q1", "5")))
        yield graph


@pytest.mark.parametrize(
    "value",
    [
        [],
        [[]],
        [None],
        [[], [None]],
        [None, "a"],
        [1, 1.5],
        [[], [1]],
        {},
        [{}],
        {"a": [1], "b": "[]"},
        [{"a": 1, "b": 2}, {"b": 1, "a": 2}],  # LadybugDB would read the second as it reads the first
        [{"a": 1, "b": []}, {"b": ["x"], "a": None}],
        "$empty",
    ],
)
def test_a_value_comes_back_as_it_was_given(graph: LadybugGraph, value: Any) -> None:
    result = graph.cypher("RETURN $value, '$value' AS text, size($empty) AS n", {"value": value, "empty": []})
    assert result.columns == ["$value", "text", "n"]
    assert list(result.rows) == [(value, "$value", 0)]


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("MATCH (t:Thinking) WHERE t.id IN $ids RETURN t.id", []),
        ("MATCH (t:Thinking) WHERE size($ids) = 0 OR t.id IN $ids RETURN t.id ORDER BY t.id", [("t1",), ("t2",)]),
        ("UNWIND $ids AS id MATCH (t:Thinking {id: id}) RETURN t.id", []),
    ],
)
def test_an_empty_list_selects_nothing(graph: LadybugGraph, query: str, rows: list[tuple[str]]) -> None:
    assert list(graph.cypher(query, {"ids": []}).rows) == rows


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([1, "a"], "a list of the parameter [$]value has a number and a text"),
        (["a", True], "has a text and a Boolean"),  # LadybugDB would pass two Booleans
        (["1", 2], "has a text and a number"),  # and here two numbers
        (["a", [1]], "has a text and a list"),  # and here a text
        ({"rows": [{"x": 1}, {"x": "a"}]}, "has a number and a text"),
        ([dt.date(2026, 1, 31), dt.datetime(2026, 1, 31, tzinfo=dt.UTC)], "has a date and a time"),
        ([[1], None], "null after a list or an object; leave it out"),
        ([{"x": 1}, {"y": 1}], "different keys, .* add the missing keys with null"),
        ({"x": None}, "an object of the parameter [$]value has a null or an empty list, .* leave this key out"),
        ([{"x": [], "y": 1}], "a null or an empty list"),
        ([1, 2**63], "the number 9223372036854775808 of the parameter [$]value does not fit into 64 bits"),
        ([[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]], "nested too deep; write at most 20"),
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_a_value_that_would_be_changed_is_refused(graph: LadybugGraph, value: Any, sentence: str, write: bool) -> None:
    with pytest.raises(InputError, match=sentence):
        graph.cypher("RETURN $value AS value", {"value": value}, write=write)


def test_a_parameter_that_the_query_does_not_use_is_not_looked_at(graph: LadybugGraph) -> None:
    assert list(graph.cypher("RETURN 1 // $value", {"value": 2**63}).rows) == [(1,)]
