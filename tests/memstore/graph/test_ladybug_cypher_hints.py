"""Errors of LadybugDB say what to write instead, and columns are named as the query wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore.graph.ladybug import LadybugGraph, cypher
from memstore.testing.conformance.graph_blocks import Rollout, make_block


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LadybugGraph]:
    folder: Path = tmp_path_factory.mktemp("hints")
    with LadybugGraph.open(folder / "graph", create=True) as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4", 1.0), Rollout("t2", "q1", "5", 0.0)))
        yield graph


@pytest.mark.parametrize(
    ("query", "words"),
    [
        # functions of Neo4j
        ("MATCH (q:Query)-[r]->(t) RETURN type(r)", r"no function type; write label\("),
        ("RETURN toString(1)", r"toString; write CAST\(value AS STRING\)"),
        ("RETURN TOSTRING(1)", "CAST"),
        ("RETURN toInteger('1')", "INT64"),
        ("RETURN toFloat('1')", "DOUBLE"),
        ("RETURN split('a,b', ',')", "string_split"),
        ("UNWIND [1.0, 2.0] AS x RETURN stdev(x)", "sqrt"),
        ("RETURN head([1])", r"list\[1\]"),
        ("RETURN datetime()", "current_timestamp"),
        ("RETURN timestamp()", "current_timestamp"),
        ("RETURN reduce(s = 0, x IN [1] | s + x)", "list_sum"),
        ("RETURN round(2.55 * 10)", r"round\(value, 0\)"),
        ("RETURN substring('abc', 1)", "start, length"),
        ("RETURN frobnicate(1)", "show_functions"),
        # constructs of Neo4j
        ("CALL { MATCH (q:Query) RETURN count(q) AS n } RETURN n", r"COUNT \{ MATCH"),
        ("MATCH (q:Query) CALL (q) { MATCH (q)-->(t) RETURN t } RETURN t", r"COUNT \{ MATCH"),
        ("call{ match (q:Query) return q } return q", r"COUNT \{ MATCH"),
        ("CALL db.labels()", "show_tables"),
        ("CALL apoc.help('x')", "show_tables"),
        ("MATCH p = shortestPath((q:Query)-[*]->(t:Thinking)) RETURN p", "SHORTEST"),
        ("RETURN [x IN [1, 2] WHERE x > 1 | x]", "list_filter"),
        ("MATCH (q:Query) RETURN q {.id}", "map projections"),
        ("MATCH (q) WHERE q:Query RETURN q", "label in the pattern"),
        # names that are misspelt
        ("MATCH (t:Thinkng) RETURN t", r"Thinkng, did you mean Thinking\?; labels: Query, Dataset, Thinking"),
        ("MATCH (t:thinking) RETURN count(q)", "in scope"),
        ("MATCH (q:Querry) RETURN q", r"did you mean Query\?"),
        ("MATCH (q:Query)-[:GENERATE]->(t) RETURN t", r"did you mean GENERATES\?"),
        ("MATCH (m:Zzz) RETURN m", "type Zzz; labels"),
        ("MATCH (q:Query) RETURN q.txt", r"Query has no property txt, did you mean text\?"),
        ("MATCH (a:Thinking)-[s:SIMILAR_TO]->() RETURN s.scor", r"SIMILAR_TO has no property scor, .*score\?"),
        ("MATCH (q:Query)-[:GENERATES]->(t) RETURN t.rewrd", r"did you mean reward\?"),
    ],
)
@pytest.mark.parametrize("write", [False, True])
def test_the_error_says_what_to_write_instead(graph: LadybugGraph, query: str, words: str, write: bool) -> None:
    with pytest.raises(InputError, match=words) as refused:
        graph.cypher(query, write=write)
    assert "--write" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "instead",
    [
        "MATCH (q:Query)-[r]->(t) RETURN label(r)",
        "RETURN CAST(1 AS STRING), CAST('1' AS INT64), CAST('1' AS DOUBLE), CAST('true' AS BOOL)",
        "RETURN string_split('a,b', ','), list_slice([1, 2], 2, size([1, 2])), [1, 2][1], [1, 2][-1]",
        "UNWIND [1.0, 2.0] AS x RETURN sqrt(avg(x * x) - avg(x) * avg(x))",
        "RETURN current_timestamp(), timestamp('2026-01-31 12:00:00'), date('2026-01-31'), current_date()",
        "RETURN list_sum([1, 2]), list_product([1, 2]), list_reduce([1, 2], (a, b) -> a + b)",
        "RETURN round(2.55, 1), substring('abc', 1, 2), gen_random_uuid(), size('abc')",
        "RETURN list_filter([1, 2], x -> x > 1), list_transform([1, 2], x -> x * 2)",
        "MATCH (q:Query) RETURN COUNT { MATCH (q)-[:GENERATES]->(t:Thinking) }",
        "MATCH p = (q:Query)-[:GENERATES* SHORTEST 1..5]->(t:Thinking) RETURN p",
    ],
)
def test_what_the_errors_recommend_works(graph: LadybugGraph, instead: str) -> None:
    assert list(graph.cypher(instead).rows)


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("MATCH (q:Query) RETURN count(*)", ["count(*)"]),
        ("MATCH (q:Query) RETURN q.id, COUNT(*) AS n", ["q.id", "n"]),
        ("MATCH (q:Query) RETURN DISTINCT q.domain ORDER BY q.domain LIMIT 3", ["q.domain"]),
        ("MATCH (q:Query) RETURN sum(1) + 2, max(q.id);", ["sum(1) + 2", "max(q.id)"]),
        ("RETURN [1, 2], {a: 1, b: 2}, 'x, y'", ["[1, 2]", "{a: 1, b: 2}", "'x, y'"]),
        ("RETURN 1 AS `a, b`, 2 as c", ["a, b", "c"]),
        ("MATCH (q:Query) RETURN *", ["q"]),
        ("RETURN count(*) UNION ALL RETURN count(*)", ["count(*)"]),
        ("MATCH (q:Query) WITH count(*) AS n RETURN n * 2 // twice", ["n * 2"]),
        ("MATCH (q:Query) RETURN COUNT { MATCH (q)-->(t) }", ["COUNT { MATCH (q)-->(t) }"]),
        ("CALL show_tables() RETURN name", ["name"]),
    ],
)
def test_columns_are_named_as_the_query_wrote_them(graph: LadybugGraph, query: str, columns: list[str]) -> None:
    assert graph.cypher(query).columns == columns


def test_names_of_the_database_are_kept_where_items_cannot_be_assigned() -> None:
    assert cypher.column_names("MATCH (q:Query) RETURN *, count(*)", ["q", "COUNT_STAR()"]) == ["q", "COUNT_STAR()"]
    assert cypher.column_names("EXPLAIN MATCH (q:Query) RETURN q.id, q", ["explain result"]) == ["explain result"]
