"""HeteroData of a small memory, and its subgraphs.

Three queries on a line: "one" - "two" - "three", each linked to the next; "one" has two rollouts that agree, "two" one
without an answer, "three" two that differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from memstore.errors import InputError
from memstore.graph.protocol import EdgeTable
from memstore.records.ids import answer_id, query_id
from memstore.snapshots.snapshot import Snapshot
from memstore_gnn.data.hetero import node_index, select_queries, subgraph, to_hetero
from memstore_gnn.data.splits import Split

ROWS = [
    {"query": "one", "key": "k1", "value": "4", "thinking": "2+2", "reward": 1.0, "dataset": "sums"},
    {"query": "one", "key": "k1", "value": "4", "thinking": "1+3", "reward": 1.0, "dataset": "sums"},
    {"query": "two", "key": "k2", "value": "", "thinking": "no idea", "reward": None, "dataset": "sums"},
    {"query": "three", "key": "k3", "value": "7", "thinking": "3+4", "reward": None, "dataset": "more"},
    {"query": "three", "key": "k3", "value": "8", "thinking": "4+4", "reward": 0.0, "dataset": "more"},
]
QUERY_X = {"one": [1.0, 0.0], "two": [0.0, 1.0], "three": [0.6, 0.8]}
THINKING_X = [[1.0, 0.0], [0.8, 0.6], None, [0.0, 1.0], [0.6, 0.8]]


def similar(pairs: list[tuple[int, int, float]]) -> EdgeTable:
    ordered = sorted(pairs)
    return EdgeTable(
        np.array([a for a, _, _ in ordered], np.int64),
        np.array([b for _, b, _ in ordered], np.int64),
        pa.table({"score": pa.array([s for _, _, s in ordered], pa.float32())}),
    )


@pytest.fixture
def memory(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    snapshot = build_snapshot(ROWS, QUERY_X, THINKING_X)
    at = query_rows(snapshot)
    links = similar([(at["one"], at["two"], 0.5), (at["two"], at["three"], 0.8)])
    texts = snapshot.thinkings["text"].to_pylist()
    near = similar([(texts.index("2+2"), texts.index("4+4"), 0.6)])
    return replace(snapshot, edges={**snapshot.edges, "query_similar": links, "thinking_similar": near})


def query_rows(snapshot: Snapshot) -> dict[str, int]:
    return {text: row for row, text in enumerate(snapshot.queries["text"].to_pylist())}


def pairs_of(edge_index: torch.Tensor) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in edge_index.T}


def test_three_queries_are_exported_in_full(memory: Snapshot) -> None:
    data = to_hetero(memory, policies=True)
    at = query_rows(memory)
    texts = memory.thinkings["text"].to_pylist()
    t = {text: row for row, text in enumerate(texts)}
    a = {value: row for row, value in enumerate(memory.answers["value"].to_pylist())}
    assert data.validate(raise_on_error=True)
    assert data["query"].x.dtype == torch.float32
    assert data["query"].x[at["three"]].tolist() == pytest.approx([0.6, 0.8])
    assert data["thinking"].x[t["no idea"]].tolist() == [0.0, 0.0]
    assert data["thinking"].has_x.tolist() == [text != "no idea" for text in texts]
    assert data["query"].has_x.tolist() == [True, True, True]
    assert data["thinking"].y[[t["2+2"], t["1+3"], t["4+4"]]].tolist() == [1.0, 1.0, 0.0]
    assert torch.isnan(data["thinking"].y[[t["no idea"], t["3+4"]]]).all()
    generates = {("one", "2+2"), ("one", "1+3"), ("two", "no idea"), ("three", "3+4"), ("three", "4+4")}
    assert pairs_of(data["query", "generates", "thinking"].edge_index) == {(at[q], t[x]) for q, x in generates}
    leads = {("2+2", "4"), ("1+3", "4"), ("3+4", "7"), ("4+4", "8")}
    assert pairs_of(data["thinking", "leads_to", "answer"].edge_index) == {(t[x], a[v]) for x, v in leads}
    assert data["answer"].num_nodes == 3
    links = data["query", "similar_to", "query"]
    assert pairs_of(links.edge_index) == {(at["one"], at["two"]), (at["two"], at["three"])}
    assert links.edge_attr.shape == (2, 1)
    assert sorted(links.edge_attr.flatten().tolist()) == pytest.approx([0.5, 0.8])
    near = data["thinking", "similar_to", "thinking"]
    assert pairs_of(near.edge_index) == {(t["2+2"], t["4+4"])}
    assert near.edge_attr.tolist() == [[pytest.approx(0.6)]]
    assert sorted(edge[1] for edge in data.edge_types) == sorted(
        ["generates", "rev_generates", "leads_to", "rev_leads_to", "wrote", "rev_wrote"]
        + 2 * ["similar_to", "rev_similar_to"]
    )


def test_similarity_edges_are_exported_in_both_directions(memory: Snapshot) -> None:
    data = to_hetero(memory, policies=True)
    at = query_rows(memory)
    # "two" is a neighbour of "one", so messages must flow from "two" (source) to "one" (target).
    assert (at["two"], at["one"]) in pairs_of(data["query", "rev_similar_to", "query"].edge_index)
    for source, name, target in list(data.edge_types):
        if not name.startswith("rev_"):
            forward = data[source, name, target].edge_index
            assert torch.equal(data[target, f"rev_{name}", source].edge_index, forward.flip(0))


def test_ids_and_rows_are_mapped_both_ways(memory: Snapshot) -> None:
    index = node_index(memory)
    data = to_hetero(memory, policies=True)
    two = query_id("two")
    row = int(index["query"].positions([two])[0])
    assert data.node_ids["query"][row] == two
    assert data["query"].node_index.tolist() == [0, 1, 2]
    assert memory.queries["text"][row].as_py() == "two"
    four = answer_id(query_id("one"), "4")
    assert memory.answers["value"][int(index["answer"].positions([four])[0])].as_py() == "4"
    with pytest.raises(InputError, match="no node 'q-unknown'"):
        index["query"].positions([two, "q-unknown"])


def test_rollouts_have_the_mask_of_their_query(memory: Snapshot) -> None:
    at = query_rows(memory)
    owners = {"train": "one", "select": "two", "report": "three"}
    marks = {name: np.arange(3) == at[text] for name, text in owners.items()}
    data = to_hetero(memory, splits=Split(**marks))
    parents = data["thinking", "rev_generates", "query"].edge_index
    for name, mark in marks.items():
        assert data["query"][f"{name}_mask"].tolist() == mark.tolist()
        by_parent = torch.zeros(5, dtype=torch.bool)
        by_parent[parents[0]] = data["query"][f"{name}_mask"][parents[1]]
        assert torch.equal(data["thinking"][f"{name}_mask"], by_parent)
    assert data.validate()


def test_overlapping_splits_are_refused(memory: Snapshot) -> None:
    every = np.ones(3, bool)
    with pytest.raises(InputError, match="two parts of the split"):
        to_hetero(memory, splits=Split(every, every, ~every))


def test_hidden_labels_are_not_exported(memory: Snapshot) -> None:
    data = to_hetero(memory, reward=np.full(5, np.nan))
    assert torch.isnan(data["thinking"].y).all()
    with pytest.raises(InputError, match="3 rewards for 5 rollouts"):
        to_hetero(memory, reward=np.zeros(3))


def test_an_empty_memory_exports_every_relation(build_snapshot: Callable[..., Snapshot]) -> None:
    data = to_hetero(build_snapshot([]), policies=True)
    assert data.validate()
    assert len(data.edge_types) == 10
    assert all(tuple(data[edge].edge_index.shape) == (2, 0) for edge in data.edge_types)


@pytest.mark.parametrize(
    ("start", "hops", "kept"),
    [
        ("one", 0, {"one"}),
        ("one", 1, {"one", "two"}),
        ("three", 1, {"two", "three"}),  # against the direction of the edge
        ("three", 2, {"one", "two", "three"}),
    ],
)
def test_a_subgraph_has_its_queries_with_their_rollouts_and_answers(
    memory: Snapshot, start: str, hops: int, kept: set[str]
) -> None:
    at = query_rows(memory)
    part = subgraph(memory, [memory.queries["id"][at[start]].as_py()], hops)
    assert set(part.queries["text"].to_pylist()) == kept
    assert set(part.thinkings["text"].to_pylist()) == {row["thinking"] for row in ROWS if row["query"] in kept}
    values = {row["value"] for row in ROWS if row["query"] in kept and row["value"]}
    assert set(part.answers["value"].to_pylist()) == values
    inside = sum({a, b} <= kept for a, b in (("one", "two"), ("two", "three")))
    assert len(part.edges["query_similar"]) == inside
    assert len(part.edges["produced"]) == len(part.edges["wrote"]) == part.thinkings.num_rows
    assert part.manifest.id != memory.manifest.id
    assert to_hetero(part).validate()


def test_the_subgraph_of_all_queries_equals_the_memory(memory: Snapshot) -> None:
    part = subgraph(memory, memory.queries["id"].to_pylist())
    assert part.thinkings.equals(memory.thinkings)
    for name, edges in memory.edges.items():
        assert np.array_equal(part.edges[name].source, edges.source), name
        assert np.array_equal(part.edges[name].target, edges.target), name
    assert np.array_equal(part.thinking_x, memory.thinking_x)


def test_queries_are_selected_by_dataset_and_key(memory: Snapshot) -> None:
    at = query_rows(memory)
    ids = memory.queries["id"].to_pylist()
    assert set(select_queries(memory, "sums")) == {ids[at["one"]], ids[at["two"]]}
    assert select_queries(memory, "more", ["k3"]).tolist() == [ids[at["three"]]]
    with pytest.raises(InputError, match="no dataset 'sum'; it has more, sums"):
        select_queries(memory, "sum")
    with pytest.raises(InputError, match="no query with the key 'k9'"):
        select_queries(memory, keys=["k1", "k9"])
    with pytest.raises(InputError, match="no query with the key 'k3'"):
        select_queries(memory, "sums", ["k3"])
    with pytest.raises(InputError, match="-1 hops"):
        subgraph(memory, ids, -1)


def test_the_export_of_80000_rollouts_takes_less_than_a_second(memory: Snapshot) -> None:
    rollouts, queries, k = 80_000, 10_000, 5
    owner = np.repeat(np.arange(queries), rollouts // queries)
    every = np.arange(rollouts)

    def ids(prefix: str, count: int) -> pa.Array:
        return pa.array([f"{prefix}-{i:08d}" for i in range(count)])

    def links(count: int) -> EdgeTable:
        source = np.repeat(np.arange(count), k)
        return EdgeTable(source, (source + 1) % count, pa.table({"score": np.ones(len(source), np.float32)}))

    none = pa.table({"row": every}).select([])
    big = replace(
        memory,
        queries=pa.table({"id": ids("q", queries)}),
        thinkings=pa.table({"id": ids("t", rollouts), "reward": pa.nulls(rollouts, pa.float64())}),
        answers=pa.table({"id": ids("a", rollouts)}),
        policies=pa.table({"id": ["p-one"]}),
        edges={
            "generates": EdgeTable(owner, every, none),
            "leads_to": EdgeTable(every, every, none),
            "wrote": EdgeTable(np.zeros(rollouts, np.int64), every, none),
            "in": EdgeTable(every[:0], every[:0], pa.table({"split": pa.nulls(0, pa.string())})),
            "query_similar": links(queries),
            "thinking_similar": links(rollouts),
        },
        query_x=np.ones((queries, 384), np.float32),
        thinking_x=np.ones((rollouts, 384), np.float32),
        query_has_x=np.ones(queries, bool),
        thinking_has_x=np.ones(rollouts, bool),
    )
    seconds = []
    for _ in range(3):
        started = time.process_time()
        data = to_hetero(big)
        seconds.append(time.process_time() - started)
    assert data["thinking"].num_nodes == rollouts
    assert data["thinking"].x.data_ptr() == big.thinking_x.ctypes.data
    assert min(seconds) <= 1.0
