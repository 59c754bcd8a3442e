"""A read-only query changes neither the graph nor files nor settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.errors import InputError
from memstore.graph.ladybug import LadybugGraph
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reads_only")
    (folder / "in.csv").write_text("q7,x\n")
    return folder


@pytest.fixture(scope="module")
def graph(place: Path) -> Iterator[LadybugGraph]:
    with LadybugGraph.open(place / "graph", create=True) as graph:
        graph.write_block(make_block(Rollout("t1", "q1", "4")))
        yield graph


REFUSED = [
    "CREATE (:Query {id: 'x'})",
    "MATCH (t:Thinking) SET t.text = 'z'",
    "MATCH (t:Thinking) DETACH DELETE t",
    "MERGE (:Query {id: 'x'})",
    "EXPLAIN CREATE (:Query {id: 'x'})",
    "PROFILE CREATE (:Query {id: 'x'})",
    "CREATE NODE TABLE X(id STRING PRIMARY KEY)",
    "CREATE REL TABLE X(FROM Query TO Query)",
    "DROP TABLE GENERATES",
    "ALTER TABLE Query ADD colour STRING",
    "COMMENT ON TABLE Query IS 'x'",
    "CREATE MACRO twice(x) AS x + x",
    "CREATE SEQUENCE s",
    "CREATE TYPE number AS INT64",
    "CREATE GRAPH g",
    "COPY Query FROM 'PLACE/in.csv'",
    "COPY (MATCH (t:Thinking) RETURN t.id) TO 'PLACE/out.csv'",
    "COPY (MATCH (t:Thinking) RETURN t.id) TO 'PLACE/out.parquet'",
    "EXPORT DATABASE 'PLACE/exported'",
    "IMPORT DATABASE 'PLACE/exported'",
    "LOAD FROM 'PLACE/in.csv' RETURN *",
    "load  from 'PLACE/in.csv' RETURN *",
    "LOAD /* a */ FROM 'PLACE/in.csv' RETURN *",
    "LOAD WITH HEADERS (a STRING, b STRING) FROM 'PLACE/in.csv' RETURN *",
    "MATCH (q:Query) LOAD FROM 'PLACE/in.csv' RETURN *",
    "// MATCH\nLOAD FROM 'PLACE/in.csv' RETURN *",
    "CALL read_csv_serial('PLACE/in.csv') RETURN *",
    "CALL READ_PARQUET('PLACE/in.csv') RETURN *",
    "MATCH (q:Query) CALL read_npy('PLACE/in.csv') RETURN *",
    "CALL threads = 1",
    "CALL timeout=1",
    "CALL force_checkpoint_on_close=true",
    "CALL clear_warnings()",
    "CALL project_graph('g', ['Query'], [])",
    "CHECKPOINT",
    "COMMIT",
    "ROLLBACK",
    "BEGIN TRANSACTION",
    "INSTALL json",
    "LOAD EXTENSION json",
    "ATTACH 'PLACE/other.lbdb' AS other (dbtype lbug)",
    "USE GRAPH g",
    "COMMIT; CREATE (:Query {id: 'x'})",
    "RETURN 1; COPY (MATCH (t:Thinking) RETURN t.id) TO 'PLACE/out.csv'",
    "RETURN '\\\\'; LOAD FROM 'PLACE/in.csv' RETURN * //'",
]


@pytest.mark.parametrize("query", REFUSED)
def test_a_query_that_does_more_than_read_is_refused(graph: LadybugGraph, place: Path, query: str) -> None:
    before, files = dump(graph), sorted(entry.name for entry in place.iterdir())
    settings = [list(graph.cypher(f"CALL current_setting('{name}') RETURN *").rows) for name in ("threads", "timeout")]
    with pytest.raises(InputError):
        graph.cypher(query.replace("PLACE", str(place)))
    assert dump(graph) == before
    assert sorted(entry.name for entry in place.iterdir()) == files
    assert settings == [
        list(graph.cypher(f"CALL current_setting('{name}') RETURN *").rows) for name in ("threads", "timeout")
    ]


@pytest.mark.parametrize(
    "query",
    [
        "MATCH (t:Thinking) RETURN t.id",
        "match (t:Thinking) return t.id;",
        "// a question\nMATCH (t:Thinking) /* all */ RETURN t.id",
        "OPTIONAL MATCH (t:Thinking) RETURN t",
        "UNWIND [1, 2] AS x RETURN x",
        "WITH 1 AS x RETURN x",
        "RETURN 'CREATE; LOAD FROM x; CALL y()' AS text",
        'RETURN "it\'s; COPY" AS text',
        "MATCH (q:Query)-[:GENERATES]->(t) RETURN q.id AS `LOAD FROM`, t.id",
        "CALL show_tables() RETURN *",
        "CALL table_info('Query') RETURN *",
        "EXPLAIN MATCH (q:Query) RETURN q",
        "PROFILE MATCH (q:Query) RETURN q",
        "MATCH p = (q:Query)-[*1..2]->() RETURN p",
    ],
)
def test_a_read_only_query_is_allowed(graph: LadybugGraph, query: str) -> None:
    assert list(graph.cypher(query).rows)


def test_with_write_files_may_be_read_and_written(graph: LadybugGraph, place: Path) -> None:
    rows = graph.cypher(f"LOAD FROM '{place}/in.csv' RETURN *", write=True).rows
    assert list(rows) == [("q7", "x")]
    list(graph.cypher(f"COPY (MATCH (t:Thinking) RETURN t.id) TO '{place}/copied.csv'", write=True).rows)
    assert "t1" in (place / "copied.csv").read_text()


def test_a_path_is_its_nodes_and_relationships(graph: LadybugGraph) -> None:
    rows = list(graph.cypher("MATCH p = (q:Query)-[:GENERATES*1..1]->(t:Thinking) RETURN p").rows)
    assert [node["id"] for node in rows[0][0]["nodes"]] == ["q1", "t1"]
    assert rows[0][0]["relationships"] == [{}]
