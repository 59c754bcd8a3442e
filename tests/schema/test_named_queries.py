"""Files of the named queries. The conformance suite tests their results on each graph store."""

from __future__ import annotations

import re

import pytest

from memstore.testing.conformance.named_query_memory import ANSWERS
from memstore_schema.queries import NamedQuery, named_queries, parse

NOT_PORTABLE = re.compile(
    r"shortestPath|\btype\(|elementId|\bid\(|\boffset\(|\blabel\(|\bREMOVE\b|\bFOREACH\b|datetime\(|timestamp\("
    r"|\bCALL\b|\breduce\(|\bCAST\(|\w\[\d|\bCREATE\b|\bSET\b|\bMERGE\b|\bDELETE\b",
    re.IGNORECASE,
)


def test_every_query_has_an_expected_answer() -> None:
    assert [query.name for query in named_queries()] == sorted(ANSWERS)


@pytest.mark.parametrize("query", named_queries(), ids=lambda query: query.name)
def test_a_named_query_has_a_question_declares_its_parameters_and_keeps_to_the_common_subset(query: NamedQuery) -> None:
    assert query.question.endswith("?")
    assert set(re.findall(r"\$(\w+)", query.text)) == set(query.parameters)
    assert not NOT_PORTABLE.search(query.text)
    assert query.name == query.name.lower()


@pytest.mark.parametrize("query", named_queries(), ids=lambda query: query.name)
def test_a_named_query_orders_its_rows(query: NamedQuery) -> None:
    """The query ends with an ORDER BY of all rows, so it has no UNION."""
    assert not re.search(r"\bUNION\b", query.text)
    assert re.search(r"\bORDER BY [\w.(), ]+(\nLIMIT \$limit)?\Z", query.text.partition("RETURN")[2]), "no order"


def test_a_query_file_is_parsed() -> None:
    query = parse("some", '// Which?\n// $limit = 20\n// $dataset = "sums"\nMATCH (q)\nRETURN q LIMIT $limit\n')
    assert (query.name, query.question) == ("some", "Which?")
    assert query.parameters == {"limit": 20, "dataset": "sums"}
    assert query.text == "MATCH (q)\nRETURN q LIMIT $limit"


@pytest.mark.parametrize("source", ["MATCH (q) RETURN q", "", "// Which?\n// limit 20\nRETURN 1", "// W?\n// $a = x\n"])
def test_a_malformed_query_file_is_an_error(source: str) -> None:
    with pytest.raises(ValueError, match=r"question|parameter|Expecting"):
        parse("some", source)
