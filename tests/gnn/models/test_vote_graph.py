"""The graph of votes, and the network over it: zero before training, and the same for a query alone and in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData

from memstore.types import IntVector
from memstore_gnn.models.network import FROM_THINKING, NO_CORRECTION, TO_THINKING, Correction, RewardNetwork
from memstore_gnn.models.settings import NetworkSettings
from memstore_gnn.models.vote_graph import WIDTHS, Voters, Votes, vote_graph

VOTERS = 5


def voters() -> Voters:
    chance = np.random.default_rng(1)
    reliability, one = chance.uniform(0.3, 0.9, VOTERS), np.ones(VOTERS)
    return Voters(reliability, 0.1 * one, 40 * one, 0.6 * one, 4.0 * one, reliability)


def votes(queries: IntVector, seed: int = 0) -> Votes:
    """Six rollouts a query with up to three answers each; the first rollout of a query has none."""
    parts, of = [], []
    for place, query in enumerate(queries.tolist()):
        chance = np.random.default_rng([seed, query])
        given = np.unique(chance.integers(0, 3, 5), return_inverse=True)[1]
        parts.append((chance.integers(0, VOTERS, 6), np.full(6, place), np.concatenate(([-1], given + len(of)))))
        of += [place] * (int(given.max()) + 1)
    voter, query, answer = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Votes(voter, query, answer, np.ones(len(voter)), np.array(of), len(queries))


def networks(settings: NetworkSettings | None = None) -> Correction:
    """Two networks with random weights."""
    torch.manual_seed(0)
    made = [RewardNetwork(settings or NetworkSettings()).eval() for _ in range(2)]
    for network in made:
        torch.nn.init.normal_(network.head[-1].weight)
    return Correction(tuple(made), 1.0)


def test_the_graph_has_the_relations_and_widths_that_the_network_reads() -> None:
    graph = vote_graph(votes(np.arange(4)), voters())
    assert isinstance(graph, HeteroData)
    assert graph.validate()
    assert set(graph.edge_types) == {*TO_THINKING, *FROM_THINKING}
    assert {name: graph[name].x.shape[1] for name in graph.node_types} == WIDTHS
    assert all(bool(torch.isfinite(graph[name].x).all()) for name in graph.node_types)
    assert graph.to_homogeneous(node_attrs=[]).num_nodes == graph.num_nodes


def test_the_correction_is_zero_before_training() -> None:
    graph = vote_graph(votes(np.arange(3)), voters())
    network = RewardNetwork(NetworkSettings(hidden=8)).eval()
    assert not Correction((network,), 1.0).of(graph).any()
    assert not NO_CORRECTION.of(graph).any()


def test_a_query_has_the_same_correction_alone_and_with_others() -> None:
    correction, whole = networks(), votes(np.arange(12))
    together = correction.of(vote_graph(whole, voters()))
    assert np.abs(together).max() > 0.01
    for query in range(12):
        alone = correction.of(vote_graph(votes(np.array([query])), voters()))
        assert alone == pytest.approx(together[whole.query_of == query], abs=1e-5)


@pytest.mark.parametrize("relation", [*TO_THINKING, *FROM_THINKING], ids="-".join)
def test_each_relation_moves_the_correction(relation: tuple[str, str, str]) -> None:
    correction, graph = networks(), vote_graph(votes(np.arange(6)), voters())
    before = correction.of(graph)
    graph[relation].edge_index = graph[relation].edge_index[:, :0]
    assert np.abs(correction.of(graph) - before).max() > 1e-3


def test_the_order_of_votes_does_not_matter() -> None:
    correction, given = networks(), votes(np.arange(6))
    shuffled = given.take(np.random.default_rng(2).permutation(len(given.voter)))
    assert correction.of(vote_graph(shuffled, voters())) == pytest.approx(
        correction.of(vote_graph(given, voters())), abs=1e-5
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same_correction() -> None:
    on_cpu, graph = networks(), vote_graph(votes(np.arange(6)), voters())
    expected = on_cpu.of(graph)
    on_gpu = Correction(tuple(network.cuda() for network in on_cpu.networks), 1.0)
    assert on_gpu.of(graph) == pytest.approx(expected, abs=1e-4)
