"""Concurrent writers in one namespace give the graph of one writer; conflicting labels are errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import neo4j
import pytest

from memstore.errors import InputError, LabelConflict, StoreError
from memstore.graph.neo4j import Neo4jGraph, links
from memstore.graph.protocol import GraphBlock, GraphStore, LinkUpdate
from memstore.testing.conformance.graph_blocks import Rollout, dump, make_block, make_labels, make_links, make_scores
from memstore.testing.doubles.graph import MemoryGraph
from memstore_schema.columns import NodeLabel

WRITERS = 6


def rollouts(count: int) -> list[Rollout]:
    chance = random.Random(3)
    return [
        Rollout(f"t{i:04}", f"q{i % 40}", str(chance.randrange(4)), 1.0 if i % 5 == 0 else None, policy=f"p{i % 3}")
        for i in range(count)
    ]


def overlapping(count: int) -> list[list[GraphBlock]]:
    """Blocks of each writer: the same rollouts in different blocks and orders."""
    plans = []
    for writer in range(WRITERS):
        order = rollouts(count)
        random.Random(writer).shuffle(order)
        size = 30 + 7 * writer
        plans.append([make_block(*order[i : i + size], batch={"id": "b"}) for i in range(0, count, size)])
    return plans


def all_at_once(work: list[Callable[[], object]]) -> list[Future[object]]:
    with ThreadPoolExecutor(len(work)) as pool:
        return [pool.submit(one) for one in work]


def test_six_concurrent_writers_give_the_graph_of_one(neo4j_open: partial[Neo4jGraph]) -> None:
    single = MemoryGraph()
    single.write_block(make_block(*rollouts(400), batch={"id": "b"}))

    def write(blocks: list[GraphBlock]) -> list[int]:
        with neo4j_open() as graph:
            return [sum(column) for column in zip(*(graph.write_block(block) for block in blocks), strict=True)]

    done = [future.result() for future in all_at_once([partial(write, plan) for plan in overlapping(400)])]
    with neo4j_open() as graph:
        assert dump(graph) == dump(single)
    added = [sum(column) for column in zip(*done, strict=True)]
    assert added == [40, 400, 0, len(dump(single)["Answer"])]


def test_one_of_several_conflicting_labels_is_kept(neo4j_open: partial[Neo4jGraph]) -> None:
    with neo4j_open() as graph:
        graph.write_block(make_block(*(Rollout(f"t{i}", "q1", "4") for i in range(50))))

    def label(graph: GraphStore, reward: float) -> object:
        try:
            return graph.set_labels(make_labels({f"t{i}": reward for i in range(50)}))
        except LabelConflict as conflict:
            return conflict

    with neo4j_open() as graph:
        work = [partial(label, graph, reward) for reward in (0.0, 0.25, 0.5, 0.75, 1.0)]
        outcomes = [future.result() for future in all_at_once(work)]
        rewards = set(graph.nodes(NodeLabel.THINKING, ["reward"])["reward"].to_pylist())
    assert len(rewards) == 1
    assert sorted(map(str, (type(outcome).__name__ for outcome in outcomes))) == [*["LabelConflict"] * 4, "int"]


def test_a_block_with_a_conflicting_label_is_refused_completely(neo4j_open: partial[Neo4jGraph]) -> None:
    def write(number: int) -> object:
        reward = float(number % 2)
        block = make_block(Rollout("shared", "q1", "4", reward), Rollout(f"own{number}", "q1", "4"), batch={"id": "b"})
        with neo4j_open() as graph:
            try:
                return graph.write_block(block)
            except LabelConflict:
                return None

    outcomes = [future.result() for future in all_at_once([partial(write, number) for number in range(WRITERS)])]
    with neo4j_open() as graph:
        found = {row["id"]: row["reward"] for row in graph.nodes(NodeLabel.THINKING, ["id", "reward"]).to_pylist()}
    kept = found.pop("shared")
    assert found == {f"own{number}": None for number in range(WRITERS) if float(number % 2) == kept}
    assert sum(outcome is None for outcome in outcomes) == WRITERS // 2


def test_scores_runs_and_settings_of_concurrent_writers(neo4j_open: partial[Neo4jGraph]) -> None:
    with neo4j_open() as graph:
        graph.write_block(make_block(*(Rollout(f"t{i}", "q1", "4") for i in range(20))))

    def work(number: int) -> None:
        with neo4j_open() as graph:
            graph.append_scores(make_scores("m1", 1, {f"t{i}": 0.5 for i in range(number, 20)}))
            graph.write_block(make_block(Rollout(f"u{number}", "q1", "4", policy=f"p{number}")))
            graph.write_meta({f"setting {number}": "x", "shared": str(number)})

    for future in all_at_once([partial(work, number) for number in range(WRITERS)]):
        future.result()
    with neo4j_open() as graph:
        content, meta = dump(graph), graph.read_meta()
    assert len(content["Thinking SCORED_BY RewardModel"]) == 20
    assert content["Run"][0]["policy"] == ",".join([*(f"p{n}" for n in range(WRITERS)), "small"])
    assert len(meta) == WRITERS + 1


def test_concurrent_creation_of_namespaces_and_schema(neo4j_open: partial[Neo4jGraph]) -> None:
    for future in all_at_once([lambda: neo4j_open().close()] * WRITERS):
        future.result()
    with neo4j_open() as graph:
        assert list(graph.cypher("MATCH (n:MemstoreNamespace) RETURN count(n)").rows) == [(1,)]


def test_one_process_links_at_a_time(neo4j_open: partial[Neo4jGraph]) -> None:
    order: list[str] = []

    def second() -> None:
        with neo4j_open() as graph, graph.linking():
            order.append("second")

    with neo4j_open() as graph, ThreadPoolExecutor(1) as pool:
        with graph.linking():
            waiting = pool.submit(second)
            graph.write_block(
                make_block(Rollout("t1", "q1", "4"), Rollout("t2", "q2", "4"))
            )  # other writers are not blocked
            graph.replace_links(make_links(NodeLabel.QUERY, {"q1": {"q2": 0.5}}))
            wait_for_who_waits(graph, "memstore linking")
            order.append("first")
        waiting.result()
    assert order == ["first", "second"]


def test_an_expired_lease_writes_no_lists(neo4j_open: partial[Neo4jGraph]) -> None:
    with neo4j_open() as graph, neo4j_open() as other:
        graph.write_block(make_block(Rollout("t1", "q1", "4"), Rollout("t2", "q2", "4")))
        with graph.linking():
            end_transactions(graph, "memstore linking")
            graph.replace_links(
                make_links(NodeLabel.QUERY, {"q1": {"q2": 0.5}})
            )  # no other process has taken the lease
            with other.linking(), pytest.raises(StoreError, match="memstore link"):
                graph.replace_links(make_links(NodeLabel.QUERY, {"q2": {"q1": 0.5}}))
        assert dump(other)["Query SIMILAR_TO Query"] == [("q1", "q2", {"score": 0.5})]
        graph.replace_links(make_links(NodeLabel.QUERY, {"q2": {"q1": 0.5}}))


def wait_for_who_waits(graph: Neo4jGraph, app: str) -> None:
    """Return when a transaction of memstore waits for a lock on the server."""
    shown = "SHOW TRANSACTIONS YIELD metaData, status WHERE metaData.app = $app RETURN status"
    with graph._connection.session(neo4j.READ_ACCESS) as session:
        while not any("Blocked" in row["status"] for row in session.run(shown, app=app)):
            time.sleep(0.1)


def end_transactions(graph: Neo4jGraph, app: str) -> None:
    with graph._connection.session(neo4j.WRITE_ACCESS) as session:
        shown = session.run("SHOW TRANSACTIONS YIELD transactionId, metaData WHERE metaData.app = $app", app=app)
        session.run("TERMINATE TRANSACTIONS $ids", ids=[row["transactionId"] for row in shown]).consume()


def test_a_large_link_update_is_split_into_complete_lists(
    neo4j_open: partial[Neo4jGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split update gives the result of a single one; interrupted, it leaves the remaining nodes unmarked."""
    monkeypatch.setattr(links, "PART_WEIGHT", 7)
    monkeypatch.setattr(links, "BATCH_SOURCES", 2)
    names = [f"t{i:02}" for i in range(30)]
    neighbours = {a: dict.fromkeys(names[i + 1 : i + 4], 0.5) for i, a in enumerate(names)}
    old = LinkUpdate(NodeLabel.THINKING, names[:20], make_links(NodeLabel.THINKING, neighbours).edges, [], "k=3")
    update = LinkUpdate(
        NodeLabel.THINKING, names, make_links(NodeLabel.THINKING, neighbours).edges, [*names[20:], "t99"], "k=3"
    )
    with neo4j_open() as graph:
        single = MemoryGraph()
        for each in (graph, single):
            each.write_block(make_block(*(Rollout(name, "q1") for name in [*names, "t99"]), batch={"id": "b"}))
        with pytest.raises(InputError):
            graph.replace_links(old)  # edges leave others than its sources
        unknown = LinkUpdate(update.label, names, update.edges, [*update.linked, "nobody"], "k=3")
        with pytest.raises(InputError, match="nobody"):
            graph.replace_links(unknown)
        assert dump(graph)["Thinking SIMILAR_TO Thinking"] == []
        for _ in range(2):
            graph.replace_links(update)
            single.replace_links(update)
            assert dump(graph) == dump(single)
        cut_short(graph, update, monkeypatch)


@pytest.mark.parametrize("anew", [True, False], ids=["made anew", "gone"])
def test_nodes_are_looked_up_again_after_another_writer(
    neo4j_open: partial[Neo4jGraph], monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    """Recreated nodes have other internal ids; the error names the first deleted one."""
    monkeypatch.setattr(links, "PART_WEIGHT", 7)
    names = [f"t{i:02}" for i in range(30)]
    neighbours = {a: dict.fromkeys(names[i + 1 : i + 4], 0.5) for i, a in enumerate(names)}
    looked_up: list[int] = []
    with neo4j_open() as graph, neo4j_open() as other:
        graph.write_block(make_block(*(Rollout(name, "q1") for name in names), batch={"id": "b"}))
        committed, numbers = links._Nodes.committed, links.numbers

        def between(nodes: links._Nodes, writes: int) -> None:
            committed(nodes, writes)
            if len(parts) == 3:
                other.cypher("MATCH (t:Thinking) WHERE t.id >= 't25' DETACH DELETE t", write=True)
                other.write_block(make_block(*(Rollout(name, "q1") for name in names[25:] if anew)))
            parts.append(writes)

        def counted(*arguments: Any) -> Any:
            looked_up.append(len(parts))
            return numbers(*arguments)

        parts: list[int] = []
        monkeypatch.setattr(links._Nodes, "committed", between)
        monkeypatch.setattr(links, "numbers", counted)
        update = make_links(NodeLabel.THINKING, neighbours)
        if anew:
            graph.replace_links(update)
            assert len(dump(graph)["Thinking SIMILAR_TO Thinking"]) == update.edges.num_rows
        else:
            with pytest.raises(InputError, match="the Thinking t25 is not in the memory"):
                graph.replace_links(update)
        assert looked_up == [0, 4]


def test_a_node_deleted_by_another_program_gives_one_sentence(
    neo4j_open: partial[Neo4jGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program does not take the writers' lock, so only the number of created links reveals it."""
    with neo4j_open() as graph, graph._connection.session(neo4j.WRITE_ACCESS) as session:
        graph.write_block(make_block(*(Rollout(name, "q1") for name in ("t1", "t2"))))
        numbers = links.numbers

        def then_gone(*arguments: Any) -> Any:
            found = numbers(*arguments)
            session.run(
                "UNWIND $nodes AS node MATCH (n) WHERE id(n) = node DETACH DELETE n", nodes=found[1:].tolist()
            ).consume()
            return found

        monkeypatch.setattr(links, "numbers", then_gone)
        with pytest.raises(StoreError, match="only 0 of 1 links could be created"):
            graph.replace_links(make_links(NodeLabel.THINKING, {"t1": {"t2": 0.5}}))
        assert graph.nodes(NodeLabel.THINKING, ["id", "linked"]).to_pylist() == [{"id": "t1", "linked": None}]


def cut_short(graph: Neo4jGraph, update: LinkUpdate, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of those that are not linked anew come first: what is marked is right, and knows all its neighbours."""
    done: list[list[str]] = []
    replace = links._replace

    def counted(tx: object, **options: Any) -> int:
        done.append(options["nodes"].ids.take(options["part"].source).to_pylist())
        if len(done) == 14:
            raise StoreError("cut short")
        writes: int = replace(tx, **options)
        return writes

    monkeypatch.setattr(links, "_replace", counted)
    anew = LinkUpdate(update.label, update.sources, update.edges, update.linked, "k=3 again")
    with pytest.raises(StoreError, match="cut short"):
        graph.replace_links(anew)
    finished = {name for part in done[:-1] for name in part}
    table = graph.nodes(NodeLabel.THINKING, ["id", "linked"]).to_pylist()
    marked = {row["id"] for row in table if row["linked"] == "k=3 again"}
    assert marked == finished & set(update.linked) != set()
    assert set(update.sources) - set(update.linked) <= finished
