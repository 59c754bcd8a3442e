"""A notebook's objects on a real Neo4j: what they show is what the memory holds, and nothing is written by them."""

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
from memstore.ogm import MemoryGraph, Query, Thinking, connect
from memstore.testing.digest import memory_digest
from memstore.testing.embedder import HashEmbedder

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
def graph() -> Iterator[MemoryGraph]:
    fill("one", "cats")
    fill("two", "dogs")
    with connect("one") as opened:
        yield opened


def test_queries_of_the_namespace_and_what_belongs_to_them(graph: MemoryGraph) -> None:
    assert sorted(query.text for query in Query.match(graph)) == [f"Legs of {n} cats?" for n in range(3)]
    assert len(Query.match(graph).where(dataset="legs/0")) == 2
    query = Query.match(graph).where(text="Legs of 1 cats?").first()
    assert Query.match(graph, query.id).first() == query
    assert {thinking.text for thinking in query.thinkings} == {f"1 cats, attempt {sample}" for sample in range(3)}
    assert {answer.value: votes for answer, votes in query.answers.items()} == {"4": 2, "5": 1}
    assert {other.text for other in query.similar} == {"Legs of 0 cats?", "Legs of 2 cats?"}
    thinking = next(iter(query.thinkings))
    assert [found.id for found in thinking.queries] == [query.id]
    assert all("cats" in other.text and not other.text.startswith("1 ") for other in thinking.similar)
    assert {thinking.reward for thinking in Query.match(graph).where(text="Legs of 0 cats?").first().thinkings} == {
        0,
        1,
    }


def test_conditions_add_up_and_let_no_other_namespace_in(graph: MemoryGraph) -> None:
    assert len(Query.match(graph).where("true OR true")) == 3
    assert len(Query.match(graph).where(dataset="legs/0").where(text="Legs of 0 cats?")) == 1
    assert len(Query.match(graph).where(dataset="legs/1").where(text="Legs of 0 cats?")) == 0
    assert len(Query.match(graph).where(text="Legs of 0 dogs?")) == 0
    assert len(Query.match(graph).where("_.gold IS NULL", "_.text ENDS WITH 'cats?'", dataset="legs/0")) == 2
    assert {query.text for query in Query.match(graph).order_by("_.text").skip(1).limit(1)} == {"Legs of 1 cats?"}


def test_a_label_goes_through_the_memorys_own_checks(graph: MemoryGraph) -> None:
    thinking = Thinking.match(graph).where("_.reward IS NULL").first()
    assert thinking.label(1.0)
    assert (thinking.reward, thinking.reward_source) == (1.0, "person")
    assert not thinking.label(1.0)
    with pytest.raises(LabelConflict):
        thinking.label(0.0)
    with pytest.raises(InputError, match="between 0 and 1"):
        thinking.label(2.0)
    assert thinking.label(0.0, replace=True)
    assert Thinking.match(graph, thinking.id).first().reward == 0.0


def test_a_prediction_is_no_reward(graph: MemoryGraph) -> None:
    thinking = Thinking.match(graph).where("_.reward IS NULL").first()
    scores = pa.table({"id": [thinking.id], "probability": [0.75], "reward": [1.0]})
    graph.memory.record_scores(ScoreBatch({"id": "m-1", "version": 1}, scores))
    assert thinking.predictions == {"m-1": 0.75}
    assert thinking.reward is None


def test_py2neo_cannot_write(graph: MemoryGraph) -> None:
    before = memory_digest(graph.memory)
    thinking = Thinking.match(graph).first()
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


def test_an_embedded_memory_is_out_of_its_reach() -> None:
    Memory.open(Path("embedded"), create=True).close()
    with pytest.raises(LocationError, match="embedded is an embedded memory"):
        connect("embedded")


def test_what_the_page_says_fails_on_neo4j_5_does(graph: MemoryGraph) -> None:
    for listing in (graph.schema.get_uniqueness_constraints, graph.schema.get_indexes):
        with pytest.raises(py2neo.errors.ClientError, match="ProcedureNotFound"):
            listing("Query")
    with pytest.raises(py2neo.errors.ClientError, match="SyntaxError"):
        graph.schema.create_index("Query", "text")
    twice = py2neo.NodeMatcher(graph).match("Query").where(namespace=graph.namespace).where(dataset="legs/0")
    assert len(twice) == 0
