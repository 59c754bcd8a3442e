"""Rewriting queries for a namespace, and refusing those that could leave it."""

from __future__ import annotations

import re

import pytest

from memstore.errors import InputError
from memstore.graph.neo4j.scope import scoped
from memstore_schema.queries import named_queries

SCOPED = [
    ("MATCH (n) RETURN n", "MATCH (n N) RETURN n"),
    ("MATCH (n:Query) RETURN n", "MATCH (n:Query N) RETURN n"),
    ("MATCH (n:Query {id: 'x'}) RETURN n", "MATCH (n:Query {namespace: $ns, id: 'x'}) RETURN n"),
    ("MATCH (n {}) RETURN n", "MATCH (n {namespace: $ns}) RETURN n"),
    ("MATCH (:Query) RETURN 1", "MATCH (:Query N) RETURN 1"),
    ("MATCH () RETURN count(*)", "MATCH ( N) RETURN count(*)"),
    ("match(n)return n", "match(n N)return n"),
    ("MATCH (n), (m) RETURN n, m", "MATCH (n N), (m N) RETURN n, m"),
    ("MATCH (n:Query|Answer) RETURN n", "MATCH (n:Query|Answer N) RETURN n"),
    ("MATCH (n:!Query) RETURN n", "MATCH (n:!Query N) RETURN n"),
    (
        "MATCH (n:(Query|Answer)&!Run {id: 1}) RETURN n",
        "MATCH (n:(Query|Answer)&!Run {namespace: $ns, id: 1}) RETURN n",
    ),
    ("MATCH (n:%) RETURN n", "MATCH (n:% N) RETURN n"),
    ("MATCH (n IS Query) RETURN n", "MATCH (n IS Query N) RETURN n"),
    ("MATCH (n:$('Query')) RETURN n", "MATCH (n:$('Query') N) RETURN n"),
    ("MATCH (n:`odd ) label`) RETURN n", "MATCH (n:`odd ) label` N) RETURN n"),
    ("MATCH (n:Query WHERE n.id = 'x') RETURN n", "MATCH (n:Query N WHERE n.id = 'x') RETURN n"),
    ("MATCH (n WHERE n.id = 'x') RETURN n", "MATCH (n N WHERE n.id = 'x') RETURN n"),
    ("MATCH (n:Where) RETURN n", "MATCH (n:Where N) RETURN n"),
    ("MATCH /* (a) */ (n) // (b)\nRETURN '(c)', n", "MATCH /* (a) */ (n N) // (b)\nRETURN '(c)', n"),
    # a node next to a scoped node is scoped by the relationship
    ("MATCH (a)-->(b) RETURN b", "MATCH (a N)-->(b) RETURN b"),
    ("MATCH ()-[r]->() RETURN r", "MATCH ( N)-[r]->() RETURN r"),
    ("MATCH (a)-[r:T*1..2 {x: 1}]-(b:Query) RETURN b", "MATCH (a)-[r:T*1..2 {x: 1}]-(b:Query N) RETURN b"),
    ("MATCH (a:Query)-->(b)<--(c:Run) RETURN b", "MATCH (a:Query N)-->(b)<--(c:Run N) RETURN b"),
    ("MATCH p = (a:Query)-->(b), (b)-->(c) RETURN p", "MATCH p = (a:Query N)-->(b), (b N)-->(c) RETURN p"),
    ("MATCH ((a)-->(b)){1,3} RETURN a", "MATCH ((a N)-->(b)){1,3} RETURN a"),
    ("MATCH p = SHORTEST 2 (a)-->+(b) RETURN p", "MATCH p = SHORTEST 2 (a N)-->+(b) RETURN p"),
    (
        "MATCH p = shortestPath((a:Query)-[*]-(b:Run)) RETURN p",
        "MATCH p = shortestPath((a:Query N)-[*]-(b:Run N)) RETURN p",
    ),
    ("OPTIONAL MATCH (n) RETURN n", "OPTIONAL MATCH (n N) RETURN n"),
    ("RETURN 1 UNION MATCH (n) RETURN n", "RETURN 1 UNION MATCH (n N) RETURN n"),
    ("EXPLAIN MATCH (n) RETURN n;", "EXPLAIN MATCH (n N) RETURN n;"),
    # expressions
    ("RETURN [(a:Query)-->(b) | b.id]", "RETURN [(a:Query N)-->(b) | b.id]"),
    ("RETURN [p = (a)-[:T]->() WHERE a.x | p]", "RETURN [p = (a N)-[:T]->() WHERE a.x | p]"),
    ("MATCH (a) WHERE NOT (a)-->() RETURN a", "MATCH (a N) WHERE NOT (a N)-->() RETURN a"),
    ("MATCH (a) WHERE (a)<--() AND true RETURN a", "MATCH (a N) WHERE (a N)<--() AND true RETURN a"),
    ("RETURN exists((:Query)-->(:Run))", "RETURN exists((:Query N)-->(:Run N))"),
    ("RETURN EXISTS { (n:Query) }", "RETURN EXISTS { (n:Query N) }"),
    ("RETURN EXISTS { MATCH (n) WHERE n.x > 1 }", "RETURN EXISTS { MATCH (n N) WHERE n.x > 1 }"),
    ("RETURN COUNT { (n)-->(m) WHERE n.x }", "RETURN COUNT { (n N)-->(m) WHERE n.x }"),
    ("RETURN COLLECT { MATCH (n) RETURN n.id }", "RETURN COLLECT { MATCH (n N) RETURN n.id }"),
    ("CALL { MATCH (n) RETURN n } RETURN n", "CALL { MATCH (n N) RETURN n } RETURN n"),
    (
        "MATCH (q:Query) CALL (q) { MATCH (n) RETURN n } RETURN n",
        "MATCH (q:Query N) CALL (q) { MATCH (n N) RETURN n } RETURN n",
    ),
    ("MATCH (a) RETURN (a.x) - (1), (a.y)--1", "MATCH (a N) RETURN (a.x) - (1), (a.y)--1"),
    ("MATCH (n) RETURN count(n), (n.x)", "MATCH (n N) RETURN count(n), (n.x)"),
    ("MATCH (n) WHERE (n:Query) RETURN n", "MATCH (n N) WHERE (n:Query) RETURN n"),
    ("WITH {match: 1} AS set RETURN set.match AS create",) * 2,
    ("RETURN duration.between($a, $b), [x IN $xs WHERE (x) > 1 | (x)]",) * 2,
    # created nodes get the namespace; nodes that are bound already are not changed
    ("CREATE (:Query {id: 'x'})", "CREATE (:Query {namespace: $ns, id: 'x'})"),
    ("CREATE (n)", "CREATE (n N)"),
    ("CREATE (a:Query)-[:T {x: 1}]->(b), (a)-[:T]->()", "CREATE (a:Query N)-[:T {x: 1}]->(b N), (a)-[:T]->( N)"),
    (
        "MERGE (n:Query {id: 'x'}) ON CREATE SET n.a = 1",
        "MERGE (n:Query {namespace: $ns, id: 'x'}) ON CREATE SET n.a = 1",
    ),
    ("MATCH (a:Query) MATCH (b:Run) CREATE (a)-[:T]->(b)", "MATCH (a:Query N) MATCH (b:Run N) CREATE (a)-[:T]->(b)"),
    ("MATCH (a:Query) WITH a MERGE (a)-[:T]->(b)", "MATCH (a:Query N) WITH a MERGE (a)-[:T]->(b N)"),
    (
        "MATCH (a:Query) WITH DISTINCT a AS b MERGE (b)-[:T]->(b)",
        "MATCH (a:Query N) WITH DISTINCT a AS b MERGE (b)-[:T]->(b)",
    ),
    ("MATCH (a:Query) WITH *, 1 AS x CREATE (a)-[:T]->(a)", "MATCH (a:Query N) WITH *, 1 AS x CREATE (a)-[:T]->(a)"),
    (
        "MATCH (a:Query) WITH collect(a) AS l UNWIND l AS n CREATE (n)-[:T]->(n)",
        "MATCH (a:Query N) WITH collect(a) AS l UNWIND l AS n CREATE (n)-[:T]->(n)",
    ),
    (
        "MATCH (a:Query) FOREACH (x IN [1, 2] | CREATE (a)-[:T]->(:Run {id: x}))",
        "MATCH (a:Query N) FOREACH (x IN [1, 2] | CREATE (a)-[:T]->(:Run {namespace: $ns, id: x}))",
    ),
    # a name that WITH does not pass on is a new node, and MERGE would match any node
    ("MATCH (a:Query) WITH 1 AS one MERGE (a)", "MATCH (a:Query N) WITH 1 AS one MERGE (a N)"),
    ("MATCH (a:Query) RETURN a UNION MERGE (a) RETURN a", "MATCH (a:Query N) RETURN a UNION MERGE (a N) RETURN a"),
    ("MATCH (a) CALL { MERGE (a) RETURN 1 AS x } RETURN x", "MATCH (a N) CALL { MERGE (a N) RETURN 1 AS x } RETURN x"),
    ("RETURN [(a)-->() | a] AS l MERGE (a)", "RETURN [(a N)-->() | a] AS l MERGE (a N)"),
]


@pytest.mark.parametrize(("query", "expected"), SCOPED, ids=[query for query, _ in SCOPED])
def test_every_node_pattern_gets_the_namespace(query: str, expected: str) -> None:
    """In `expected`, N stands for the map that holds only the namespace, $ns for the parameter."""
    expected = re.sub(r" N(?=\W)", " {namespace: $ns}", expected).replace("$ns", "$memstore_namespace")
    assert scoped(query) == expected


REFUSED = [
    "CALL db.labels()",
    "CALL db.labels() YIELD label RETURN label",
    "CALL dbms.listConnections()",
    "MATCH (n:Query) CALL apoc.path.expand(n) YIELD path RETURN path",
    "RETURN apoc.cypher.runFirstColumnSingle('MATCH (n) RETURN n')",
    "RETURN `apoc`.`cypher`.`x`('MATCH (n) RETURN n')",
    "SHOW CONSTRAINTS",
    "SHOW TRANSACTIONS YIELD *",
    "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
    "CREATE INDEX FOR (n:Query) ON (n.text)",
    "CREATE CONSTRAINT x FOR (n:Query) REQUIRE n.id IS UNIQUE",
    "CREATE DATABASE other",
    "DROP CONSTRAINT memstore_query",
    "ALTER USER neo4j SET PASSWORD 'x'",
    "USE system MATCH (n) RETURN n",
    "CALL { USE system MATCH (n) RETURN n } RETURN n",
    "LOAD CSV FROM 'file:///x.csv' AS row RETURN row",
    "WITH 1 AS x LOAD CSV FROM 'file:///x.csv' AS row RETURN row",
    "MATCH (n) LOAD CSV FROM 'file:///x.csv' AS row RETURN row",
    "CYPHER 25 MATCH (n) RETURN n",
    "MATCH (n {namespace: 'other'}) RETURN n",
    "MATCH (n {`namespace`: 'other'}) RETURN n",
    "MATCH (n {a: 1, namespace: 'other'}) RETURN n",
    "CREATE (n:Query {namespace: 'other', id: 'x'})",
    "CREATE (n:Query $properties)",
    "MATCH (n:Query) SET n.namespace = 'other'",
    "MATCH (n:Query) SET n.text = 'x', n.`namespace` = 'other'",
    "MATCH (n:Query) SET n = {id: 'x'}",
    "MATCH (n:Query) SET n += $map",
    "MATCH (n:Query) SET n.a = 1, n += $map",
    "MATCH (n:Query) SET n['name' + 'space'] = 'other'",
    "MERGE (n:Query {id: 'x'}) ON MATCH SET n += $map",
    "MATCH (n:Query) REMOVE n.namespace",
    "MATCH (n:Query) REMOVE n[$key]",
    "FOREACH (x IN [1] | SET x.namespace = 'other')",
    "MATCH (n) WHERE n.x = $memstore_namespace RETURN n",
    "MATCH (n) WHERE n.x = $`memstore_namespace` RETURN n",
    "MATCH (n) RETURN n; MATCH (m) RETURN m",
    "RETURN '\\u0027' AS x MATCH (n) RETURN n //'",
    "MATCH (n) RETURN [(n)\u2014[]\u2014(m) | m]",
    "MATCH (n RETURN n",
    "MATCH (n]) RETURN n",
    "MATCH (n) RETURN 'open",
    "MATCH (n:Query) RETURN {MATCH (m) RETURN m}",
    "hello",
]


@pytest.mark.parametrize("query", REFUSED)
def test_a_query_that_could_leave_the_namespace_is_refused_in_one_line(query: str) -> None:
    with pytest.raises(InputError) as refused:
        scoped(query)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("query", named_queries(), ids=lambda query: query.name)
def test_named_queries_get_the_namespace_in_every_pattern(query: object) -> None:
    text = scoped(query.text)  # type: ignore[attr-defined]
    patterns = re.findall(r"\((?:\w+)?:\w+[^()]*\)", text)
    assert patterns
    assert all("namespace: $memstore_namespace" in pattern for pattern in patterns)
