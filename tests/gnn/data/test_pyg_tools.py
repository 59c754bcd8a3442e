"""PyG's loaders, transforms and models on an exported memory.

The samplers of PyG need compiled packages that are not on PyPI. Here a sampler in Python stands in for them, so that
the loaders' own code that filters a batch runs.
"""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, HeteroData
from torch_geometric.loader import HGTLoader, NeighborLoader
from torch_geometric.nn import HGTConv, SAGEConv
from torch_geometric.nn import to_hetero as model_to_hetero
from torch_geometric.sampler import HeteroSamplerOutput, HGTSampler, NeighborSampler, NodeSamplerInput
from torch_geometric.transforms import NormalizeFeatures, ToUndirected

from memstore.memory import Memory
from memstore.snapshots.snapshot import Snapshot
from memstore.testing.doubles.embedder import HashEmbedder
from memstore_gnn.data.hetero import to_hetero


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Ten queries of three rollouts: one labelled, one without a label, one without thinking and answer.

    Two policies wrote them, one of them at two steps.
    """
    folder = tmp_path_factory.mktemp("pyg")
    rows = [
        {
            "query": f"What is {i} + 2?",
            "response": f"We add.\n#### {i + 2 - s}",
            "sample_index": s,
            "policy": "tiny",
            "step": s,
        }
        | ({"reward": 1.0 - s} if s == 0 and i < 8 else {})
        for i in range(10)
        for s in range(2)
    ]
    rows += [
        {"query": f"What is {i} + 2?", "response": "no idea", "sample_index": 2, "policy": "old"} for i in range(10)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    with Memory.open(folder / "memory", create=True, embedder=HashEmbedder()) as memory:
        memory.ingest([folder / "rows.jsonl"])
        return memory.snapshot()


@pytest.fixture
def data(snapshot: Snapshot) -> HeteroData:
    return to_hetero(snapshot, policies=True)


def sampled(data: HeteroData, inputs: NodeSamplerInput) -> HeteroSamplerOutput:
    """All neighbours within two hops, against the direction of the edges, as PyG's samplers return them."""
    node = {kind: [] for kind in data.node_types}
    node[inputs.input_type] = inputs.node.tolist()
    for _ in range(2):
        before = {kind: set(rows) for kind, rows in node.items()}
        for source, name, target in data.edge_types:
            row, col = data[source, name, target].edge_index.tolist()
            near = [a for a, b in zip(row, col, strict=True) if b in before[target]]
            node[source] += [a for a in dict.fromkeys(near) if a not in node[source]]
    at = {kind: {row: i for i, row in enumerate(rows)} for kind, rows in node.items()}
    rows, cols, edges = {}, {}, {}
    for kind in data.edge_types:
        ends = data[kind].edge_index.tolist()
        kept = [e for e, (a, b) in enumerate(zip(*ends, strict=True)) if a in at[kind[0]] and b in at[kind[2]]]
        rows[kind] = torch.tensor([at[kind[0]][ends[0][e]] for e in kept], dtype=torch.long)
        cols[kind] = torch.tensor([at[kind[2]][ends[1][e]] for e in kept], dtype=torch.long)
        edges[kind] = torch.tensor(kept, dtype=torch.long)
    nodes = {kind: torch.tensor(rows, dtype=torch.long) for kind, rows in node.items()}
    return HeteroSamplerOutput(nodes, rows, cols, edges, None, metadata=(inputs.input_id, inputs.time))


@pytest.fixture
def samplers(data: HeteroData, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(self: object, inputs: NodeSamplerInput, *_: object) -> HeteroSamplerOutput:
        return sampled(data, inputs)

    monkeypatch.setattr("torch_geometric.sampler.hgt_sampler.WITH_TORCH_SPARSE", True)
    for sampler in (NeighborSampler, HGTSampler):
        monkeypatch.setattr(sampler, "sample_from_nodes", sample)
        monkeypatch.setattr(sampler, "edge_permutation", None)


@pytest.mark.usefixtures("samplers")
@pytest.mark.parametrize("loader", [NeighborLoader, HGTLoader])
@pytest.mark.parametrize("kind", ["query", "thinking", "answer", "policy"])
def test_loaders_slice_every_column_of_a_batch(data: HeteroData, loader: type, kind: str) -> None:
    sizes = {"num_neighbors": [4, 4]} if loader is NeighborLoader else {"num_samples": [4, 4]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batches = list(loader(data, input_nodes=kind, batch_size=4, **sizes))
    seeds = [row for batch in batches for row in batch[kind].node_index[: batch[kind].batch_size].tolist()]
    assert seeds == list(range(data[kind].num_nodes))
    for batch in batches:
        assert batch.validate()
        for name in data.node_types:
            rows = batch[name].node_index
            for key in data[name].node_attrs():
                assert torch.equal(batch[name][key].nan_to_num(7), data[name][key][rows].nan_to_num(7)), (name, key)
            assert batch.node_ids[name] is data.node_ids[name]


@pytest.mark.usefixtures("samplers")
def test_a_mask_selects_the_seeds(data: HeteroData) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seeds = ("thinking", data["thinking"].train_mask)
        loader = NeighborLoader(data, num_neighbors=[4], input_nodes=seeds, batch_size=100)
        (batch,) = loader
    rows = batch["thinking"].node_index[: batch["thinking"].batch_size]
    assert batch["thinking"].y[: len(rows)].isfinite().all()
    assert len(rows) == int(data["thinking"].train_mask.sum())


def test_models_of_tutorials_run(data: HeteroData) -> None:
    sizes = {kind: data[kind].x.size(1) for kind in data.node_types}
    out = HGTConv(sizes, 8, data.metadata(), heads=2)(data.x_dict, data.edge_index_dict)
    assert {kind: tuple(value.shape) for kind, value in out.items()} == {
        kind: (data[kind].num_nodes, 8) for kind in data.node_types
    }

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = SAGEConv((-1, -1), 8), SAGEConv((-1, -1), 1)

        def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x, edge_index).relu(), edge_index)

    net = model_to_hetero(Net(), data.metadata())
    mask = data["thinking"].train_mask
    predicted = net(data.x_dict, data.edge_index_dict)["thinking"].flatten()[mask]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(predicted, data["thinking"].y[mask])
    loss.backward()
    assert torch.isfinite(loss)


def test_conversions_and_transforms_run(data: HeteroData) -> None:
    flat = data.to_homogeneous()
    assert flat.x.shape == (data.num_nodes, data["query"].x.size(1))
    assert flat.node_index.tolist() == [row for kind in data.node_types for row in data[kind].node_index.tolist()]
    both = Batch.from_data_list([data, data])
    assert both["answer"].x.shape[0] == 2 * data["answer"].num_nodes
    for transform in (ToUndirected(merge=False), NormalizeFeatures()):
        assert transform(data.clone()).validate()
    assert data.to("cpu").node_ids["query"].tolist() == data.node_ids["query"].tolist()
    part = data.subgraph({"thinking": torch.tensor([0, 2])})
    assert part["thinking"].node_index.tolist() == [0, 2]


@pytest.mark.parametrize(("kind", "relation"), [("answer", "rev_leads_to"), ("policy", "wrote")])
def test_an_answer_and_a_policy_have_the_mean_of_their_thinkings(
    snapshot: Snapshot, data: HeteroData, kind: str, relation: str
) -> None:
    nodes, thinkings = data[kind, relation, "thinking"].edge_index.numpy()
    assert data[kind].num_nodes > 2
    for node in range(data[kind].num_nodes):
        rows = [row for row in thinkings[nodes == node] if snapshot.thinking_has_x[row]]
        expected = snapshot.thinking_x[rows].mean(0) if rows else np.zeros(snapshot.thinking_x.shape[1])
        assert data[kind].x[node].numpy() == pytest.approx(expected, abs=1e-6)
        assert bool(data[kind].has_x[node]) is bool(rows)


def test_a_policy_at_a_step_is_a_node(snapshot: Snapshot, data: HeteroData) -> None:
    nodes, thinkings = data["policy", "wrote", "thinking"].edge_index.numpy()
    names = [(snapshot.policies["name"][int(n)].as_py(), snapshot.policies["step"][int(n)].as_py()) for n in nodes]
    columns = (snapshot.thinkings[name].take(thinkings).to_pylist() for name in ("policy", "step"))
    assert names == list(zip(*columns, strict=True))
    assert set(names) == {("tiny", 0), ("tiny", 1), ("old", None)}
    assert data.node_ids["policy"].tolist() == snapshot.policies["id"].to_pylist()


def test_masks_without_a_split_hold_labelled_rollouts(snapshot: Snapshot, data: HeteroData) -> None:
    thinking, query = data["thinking"], data["query"]
    parts = [thinking.train_mask, thinking.val_mask, thinking.test_mask]
    assert torch.equal(sum(part.int() for part in parts), thinking.y_mask.int())
    assert int(thinking.y_mask.sum()) == 8
    assert torch.equal(thinking.val_mask, thinking.select_mask)
    assert torch.equal(query.test_mask, query.report_mask)
    hidden = to_hetero(snapshot, reward=np.full(snapshot.thinkings.num_rows, np.nan))
    assert not hidden["thinking"].y_mask.any()
    assert torch.equal(hidden["thinking"].test_mask, thinking.test_mask)  # a hidden label can still be reported on


def test_policies_are_exported_on_request(snapshot: Snapshot, data: HeteroData) -> None:
    plain = to_hetero(snapshot)
    assert set(data.node_types) - set(plain.node_types) == {"policy"}
    assert {relation for _, relation, _ in set(data.edge_types) - set(plain.edge_types)} == {"wrote", "rev_wrote"}
    assert plain.validate()
