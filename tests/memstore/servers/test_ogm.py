"""The object mapping on a Neo4j server: objects show the memory's content, and nothing is written through them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import py2neo
import pyarrow as pa
import pytest

from memstore.errors import InputError, LabelConflict, LocationError
from memstore.graph.protocol import ScoreBatch
from memstore.locations.settings import Settings
from memstore.memory import Memory
from memstore.ogm import DatasetNode, Py2neoGraph, QueryNode, ThinkingNode, connect
from memstore.testing.conformance.digest import memory_digest
from memstore.testing.doubles.embedder import HashEmbedder

pytestmark = pytest.mark.usefixtures("profiles")


def fill(location: str, animal: str) -> None:
    rows = [
        {"query": f"Legs of {n} {animal}?", "dataset": f"legs/{n % 2}", "sample_index": sample}
        | {"thinking": f"{n} {animal}, attempt {sample}", "answer": str(4 * n + (sample == 2))}
        | {"reward": float(sample != 2) if n == 0 else None}
        for n in range(3)
        for sample in range(3)
    ]
    file = Path(f"{animal}.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(link_floor=-1.0)
    with Memory.open(location, create=True, embedder=HashEmbedder(), settings=settings) as memory:
        memory.ingest([file])


@pytest.fixture
def graph() -> Iterator[Py2neoGraph]:
    fill("one", "cats")
    fill("two", "dogs")
    with connect("one") as opened:
        yield opened


def test_queries_of_the_namespace_and_their_related_nodes(graph: Py2neoGraph) -> None:
    assert sorted(query.text for query in QueryNode.match(graph)) == [f"Legs of {n} cats?" for n in range(3)]
    assert {query.text for query in DatasetNode.match(graph).where(name="legs/0").first().queries} == {
        "Legs of 0 cats?",
        "Legs of 2 cats?",
    }
    assert [found.name for found in QueryNode.match(graph).where(text="Legs of 1 cats?").first().datasets] == ["legs/1"]
    query = QueryNode.match(graph).where(text="Legs of 1 cats?").first()
    assert QueryNode.match(graph, query.id).first() == query
    assert {thinking.text for thinking in query.thinkings} == {f"1 cats, attempt {sample}" for sample in range(3)}
    assert {answer.value: votes for answer, votes in query.answers.items()} == {"4": 2, "5": 1}
    assert {other.text for other in query.similar} == {"Legs of 0 cats?", "Legs of 2 cats?"}
    thinking = next(iter(query.thinkings))
    assert [found.id for found in thinking.queries] == [query.id]
    assert all("cats" in other.text and not other.text.startswith("1 ") for other in thinking.similar)
    assert {thinking.reward for thinking in QueryNode.match(graph).where(text="Legs of 0 cats?").first().thinkings} == {
        0,
        1,
    }


def test_conditions_add_up_and_exclude_other_namespaces(graph: Py2neoGraph) -> None:
    assert len(QueryNode.match(graph).where("true OR true")) == 3
    assert len(QueryNode.match(graph).where(domain="other").where(text="Legs of 0 cats?")) == 1
    assert len(QueryNode.match(graph).where(domain="math").where(text="Legs of 0 cats?")) == 0
    assert len(QueryNode.match(graph).where(text="Legs of 0 dogs?")) == 0
    assert len(QueryNode.match(graph).where("_.gold IS NULL", "_.text ENDS WITH 'cats?'", domain="other")) == 3
    assert {query.text for query in QueryNode.match(graph).order_by("_.text").skip(1).limit(1)} == {"Legs of 1 cats?"}


def test_a_label_is_checked_by_the_memory(graph: Py2neoGraph) -> None:
    thinking = ThinkingNode.match(graph).where("_.reward IS NULL").first()
    assert thinking.label(1.0)
    assert (thinking.reward, thinking.reward_source) == (1.0, "person")
    assert not thinking.label(1.0)
    with pytest.raises(LabelConflict):
        thinking.label(0.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        thinking.label(2.0)
    assert thinking.label(0.0, replace=True)
    assert ThinkingNode.match(graph, thinking.id).first().reward == 0.0


def test_a_prediction_is_not_a_reward(graph: Py2neoGraph) -> None:
    thinking = ThinkingNode.match(graph).where("_.reward IS NULL").first()
    scores = pa.table({"id": [thinking.id], "probability": [0.75], "reward": [1.0]})
    graph.memory.record_scores(ScoreBatch({"id": "m-1", "version": 1}, scores))
    assert thinking.predictions == {"m-1": 0.75}
    assert thinking.reward is None


def test_py2neo_cannot_write(graph: Py2neoGraph) -> None:
    before = memory_digest(graph.memory)
    thinking = ThinkingNode.match(graph).first()
    with pytest.raises(InputError, match=r"label a thinking with thinking\.label"):
        thinking.reward = 1.0
    thinking.__node__["reward"] = 0.125  # behind the property
    for write in (
        lambda: graph.push(thinking),
        lambda: graph.create(py2neo.Node("Query", id="q-own")),
        lambda: graph.run("MATCH (n) DETACH DELETE n"),
        lambda: graph.update("MATCH (n) DETACH DELETE n"),
        lambda: graph.run("CREATE INDEX own FOR (n:Query) ON (n.text)"),
        graph.delete_all,
    ):
        with pytest.raises(py2neo.errors.ClientError, match="AccessMode"):
            write()
    assert memory_digest(graph.memory) == before


def test_an_embedded_memory_cannot_be_opened() -> None:
    Memory.open(Path("embedded"), create=True).close()
    with pytest.raises(LocationError, match="embedded is an embedded memory"):
        connect("embedded")


def test_the_py2neo_methods_that_the_page_lists_fail_on_neo4j_5(graph: Py2neoGraph) -> None:
    for listing in (graph.schema.get_uniqueness_constraints, graph.schema.get_indexes):
        with pytest.raises(py2neo.errors.ClientError, match="ProcedureNotFound"):
            listing("Query")
    with pytest.raises(py2neo.errors.ClientError, match="SyntaxError"):
        graph.schema.create_index("Query", "text")
    twice = py2neo.NodeMatcher(graph).match("Query").where(namespace=graph.namespace).where(dataset="legs/0")
    assert len(twice) == 0
