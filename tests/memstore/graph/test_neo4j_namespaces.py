"""Two namespaces in one database do not read, change or block each other."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pyarrow as pa
import pytest

from memstore.errors import InputError, LocationError
from memstore.graph.neo4j import Neo4jGraph
from memstore.graph.protocol import ScoreBatch
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block, make_labels, make_links, make_scores
from memstore.testing.servers.neo4j import Login
from memstore_schema.columns import NodeLabel
from memstore_schema.queries import named_queries

MINE = (Rollout("t1", "q1", "4", 1.0), Rollout("t2", "q1", "5", 0.0), Rollout("t3", "q2", "7"))
THEIRS = (
    Rollout("t1", "q1", "4", 0.0, text="theirs", policy="their"),
    Rollout("t2", "q1", "6", text="theirs"),
    Rollout("t9", "q9", "9", 1.0, text="theirs", run="their run"),
)


@pytest.fixture
def pair(neo4j_login: Login) -> Iterator[tuple[Neo4jGraph, Neo4jGraph]]:
    """Two namespaces of one database; the first is filled."""
    uri, user, password = neo4j_login
    name = f"test-{uuid.uuid4().hex[:12]}"
    with (
        Neo4jGraph.open(uri, user=user, password=password, namespace=f"{name}-mine") as mine,
        Neo4jGraph.open(uri, user=user, password=password, namespace=f"{name}-theirs") as theirs,
    ):
        fill(mine, MINE, {"q1": {"q2": 0.5}}, {"t1": {"t3": 0.25}})
        yield mine, theirs
    for each in ("mine", "theirs"):
        with Neo4jGraph.open(uri, user=user, password=password, namespace=f"{name}-{each}") as graph:
            graph.cypher("MATCH (n) DETACH DELETE n", write=True)


def fill(
    graph: Neo4jGraph,
    rollouts: tuple[Rollout, ...],
    queries: dict[str, dict[str, float]],
    thinkings: dict[str, dict[str, float]],
) -> None:
    graph.write_block(make_block(*rollouts))
    graph.replace_links(make_links(NodeLabel.QUERY, queries))
    graph.replace_links(make_links(NodeLabel.THINKING, thinkings))
    graph.append_scores(make_scores("m1", 1, {rollouts[0].id: 0.5}))
    graph.write_meta({"embedder": rollouts[0].text or ""})


def fill_theirs(graph: Neo4jGraph) -> None:
    fill(graph, THEIRS, {"q1": {"q9": 0.75}, "q9": {"q1": 0.75}}, {"t1": {"t9": 0.5}, "t9": {"t2": 0.5}})


ASKED = [
    "MATCH (n) RETURN count(*)",
    "MATCH (n) RETURN count(n), collect(DISTINCT n.text)",
    "MATCH (n:Thinking) RETURN n ORDER BY n.id",
    "MATCH (n:Thinking) WHERE n.id = 't1' RETURN n.text, n.reward",
    "MATCH (n:Thinking {id: 't9'}) RETURN n",
    "MATCH (n:Query|Answer|Run) RETURN n.id ORDER BY n.id",
    "MATCH (n:!Query) RETURN count(n)",
    "MATCH (n:%) RETURN count(n)",
    "MATCH (n) WHERE n.id STARTS WITH 't' RETURN n.id ORDER BY n.id",
    "MATCH (n) WHERE n:Query RETURN count(n)",
    "MATCH (:Query) RETURN count(*)",
    "MATCH () RETURN count(*)",
    "MATCH ()-->() RETURN count(*)",
    "MATCH ()--() RETURN count(*)",
    "MATCH ()-[r]->() RETURN count(r)",
    "MATCH ()-[r:GENERATES]->() RETURN count(r)",
    "MATCH ()<-[r:SIMILAR_TO]-() RETURN r.score ORDER BY r.score",
    "MATCH (a)-[r]->(b) RETURN a.id, b.id ORDER BY a.id, b.id",
    "MATCH (a)-[*1..3]-(b) RETURN count(*)",
    "MATCH p = (:Run)-[*]->() RETURN count(p)",
    "MATCH p = shortestPath((a:Query)-[*]-(b:Run)) RETURN count(p)",
    "MATCH p = SHORTEST 1 (a:Query)--+(b:Run) RETURN count(p)",
    "MATCH ((a)-[:SIMILAR_TO]->(b)){1,2} RETURN count(*)",
    "MATCH (a), (b) RETURN count(*)",
    "MATCH (q:Query) OPTIONAL MATCH (n {id: 't9'}) RETURN q.id, n ORDER BY q.id",
    "OPTIONAL MATCH (n {id: 't9'}) RETURN n",
    "RETURN [(a)-[:GENERATES]->(b) | b.id] AS ids",
    "RETURN size([(:Query)-->(:Thinking) | 1]) AS n",
    "RETURN size([p = ()-->() | p]) AS n",
    "RETURN EXISTS { (n:Thinking {id: 't9'}) } AS there",
    "RETURN EXISTS { MATCH (n) WHERE n.text = 'theirs' } AS there",
    "RETURN COUNT { (n) } AS n, COUNT { ()-->() } AS r",
    "RETURN COUNT { MATCH (n:Answer) RETURN n } AS n",
    "RETURN COLLECT { MATCH (n:Query) RETURN n.id ORDER BY n.id } AS ids",
    "RETURN exists((:Query {id: 'q9'})-->()) AS there",
    "CALL { MATCH (n) RETURN count(n) AS n } RETURN n",
    "MATCH (q:Query) CALL (q) { MATCH (n) RETURN count(n) AS n } RETURN q.id, n ORDER BY q.id",
    "RETURN 0 AS n UNION ALL MATCH (n) RETURN count(n) AS n",
    "MATCH (n) WITH count(*) AS n MATCH (m) RETURN n, count(m)",
    "MATCH (q:Query) WHERE NOT (q)-[:SIMILAR_TO]->() RETURN q.id ORDER BY q.id",
    "MATCH (a:Answer) RETURN a.id, COUNT { (a)<--() } AS votes ORDER BY a.id",
    "UNWIND ['t1', 't9'] AS id MATCH (n {id: id}) RETURN id, n.text",
    "MATCH (n:MemstoreMeta) RETURN n.name, n.value",
    "MATCH (n:MemstoreNamespace) RETURN count(n)",
    "MATCH (n) RETURN DISTINCT n['namespace'] IS NULL AS none",
]


def test_no_other_namespace_is_read(pair: tuple[Neo4jGraph, Neo4jGraph]) -> None:
    mine, theirs = pair
    questions = [(text, {}) for text in ASKED] + [(query.text, query.parameters) for query in named_queries()]
    before = [list(mine.cypher(text, parameters).rows) for text, parameters in questions]
    content, meta = dump(mine), mine.read_meta()
    fill_theirs(theirs)
    assert dump(theirs) != content
    for (text, parameters), expected in zip(questions, before, strict=True):
        assert list(mine.cypher(text, parameters).rows) == expected, text
    assert (dump(mine), mine.read_meta()) == (content, meta)
    assert "theirs" not in repr([content, before])


def test_no_other_namespace_is_changed(pair: tuple[Neo4jGraph, Neo4jGraph]) -> None:
    mine, theirs = pair
    fill_theirs(theirs)
    content, meta = dump(theirs), theirs.read_meta()
    mine.write_block(make_block(Rollout("t1", "q1", "4", 1.0), Rollout("t9", "q9", "9", 0.5, text="mine")))
    mine.set_labels(make_labels({"t1": 0.25}), replace=True)
    mine.replace_links(make_links(NodeLabel.THINKING, {"t1": {"t9": 0.1}, "t9": {}}))
    mine.append_scores(ScoreBatch({"id": "m1"}, pa.table({"id": ["t9"], "probability": [0.1], "reward": [0.0]})))
    mine.write_batch({"id": "batch", "state": "done"})
    mine.write_meta({"embedder": "mine"})
    for change in (
        "MATCH (n) SET n.text = 'mine'",
        "MATCH ()-[r]->() SET r.score = 0.0",
        "MERGE (q:Query {id: 'q9'}) SET q.text = 'mine'",
        "MERGE (q:Query {id: 'q77'}) ON CREATE SET q.text = 'mine'",
        "MATCH (q:Query) WITH 1 AS one MERGE (q) SET q.text = 'mine'",
        "MERGE (a)-[r:SIMILAR_TO]->(b) SET a.text = 'mine', b.text = 'mine'",
        "FOREACH (x IN [1] | MERGE (n) SET n.text = 'mine')",
        "MATCH (t:Thinking) REMOVE t.reward",
        "MATCH ()-[r]->() DELETE r",
        "MATCH (n) DETACH DELETE n",
    ):
        mine.cypher(change, write=True)
        assert dump(theirs) == content, change
    assert theirs.read_meta() == meta


def test_nodes_created_by_a_user_query_are_in_the_namespace(pair: tuple[Neo4jGraph, Neo4jGraph]) -> None:
    mine, theirs = pair
    made = "MATCH (q:Query {id: 'q1'}) CREATE (q)-[:GENERATES]->(t:Thinking {id: 't5', text: 'new'}) RETURN t"
    assert list(mine.cypher(made, write=True).rows) == [({"id": "t5", "text": "new"},)]
    assert mine.nodes(NodeLabel.THINKING, ["id"])["id"].to_pylist() == ["t1", "t2", "t3", "t5"]
    assert theirs.nodes(NodeLabel.THINKING, ["id"]).num_rows == 0
    with pytest.raises(InputError):
        mine.cypher("CREATE (:Thinking {id: 't1'})", write=True)


def test_a_missing_namespace_is_only_opened_with_create(neo4j_login: Login) -> None:
    uri, user, password = neo4j_login
    name = f"test-{uuid.uuid4().hex[:12]}"
    with pytest.raises(LocationError, match=f"no memory at {uri}.*namespace {name}.*ingest"):
        Neo4jGraph.open(uri, user=user, password=password, namespace=name, create=False)
    Neo4jGraph.open(uri, user=user, password=password, namespace=name).close()
    Neo4jGraph.open(uri, user=user, password=password, namespace=name, create=False).close()


def test_a_deleted_memory_is_not_written(pair: tuple[Neo4jGraph, Neo4jGraph]) -> None:
    mine, _ = pair
    mine.cypher("MATCH (n) DETACH DELETE n", write=True)
    with pytest.raises(LocationError, match="deleted"):
        mine.write_block(make_block(*MINE))
