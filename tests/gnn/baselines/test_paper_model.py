"""Paper model: it learns a planted signal, and the direction of its similarity edges matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from memstore.snapshots.snapshot import Snapshot
from memstore.testing.doubles.device import second_device
from memstore.types import FloatMatrix
from memstore_gnn.baselines.paper import Paper, PaperNetwork, PaperSettings
from memstore_gnn.baselines.paper_graph import COMPETES, SIMILAR, Direction, paper_graph
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.labels import rewards_of
from memstore_gnn.evaluation.evaluate import hide_labels
from memstore_gnn.metrics import auc

QUERIES, GROUP, DIMENSION = 40, 5, 8
SMALL = PaperSettings(hidden=32, epochs=40, learning_rate=5e-3)


@pytest.fixture(scope="module")
def memory(build_snapshot: Callable[..., Snapshot]) -> Snapshot:
    """Vectors of right and of wrong thinkings point in opposite directions; no answer occurs twice."""
    rng = np.random.default_rng(0)
    lean = rng.normal(size=DIMENSION)
    rows, vectors, query_x = [], [], {}
    for i in range(QUERIES):
        own = rng.normal(size=DIMENSION)
        query_x[f"q{i}"] = own / np.linalg.norm(own)
        for k in range(GROUP):
            right = rng.random() < 0.5
            rows.append({"query": f"q{i}", "value": str(10 * i + k), "thinking": "so", "reward": float(right)})
            vector = lean * (1 if right else -1) + rng.normal(size=DIMENSION)
            vectors.append(vector / np.linalg.norm(vector))
    return build_snapshot(rows, query_x, vectors, dimension=DIMENSION)


def parts() -> tuple[np.ndarray, np.ndarray]:
    """Queries for training and for selection: 20 and 4 of 40."""
    at = np.arange(QUERIES)
    return at < 20, (at >= 20) & (at < 24)


def test_model_learns_a_planted_signal(memory: Snapshot) -> None:
    train, select = parts()
    rollout = query_of_thinkings(memory)
    visible = np.where((train | select)[rollout], rewards_of(memory), np.nan)
    probability = Paper(settings=SMALL).fit_predict(hide_labels(memory), visible, train, select, 0)
    report = rollout >= 24
    assert auc(probability[report], rewards_of(memory)[report]) > 0.9
    again = Paper(settings=SMALL).fit_predict(hide_labels(memory), visible, train, select, 0)
    np.testing.assert_array_equal(probability, again)


def test_every_tensor_is_on_the_device(memory: Snapshot) -> None:
    (train, select), short = parts(), replace(SMALL, epochs=3, dropout=0.0)
    visible = np.where((train | select)[query_of_thinkings(memory)], rewards_of(memory), np.nan)
    wanted = Paper(settings=short).fit_predict(memory, visible, train, select, 0)
    with second_device() as device:
        found = Paper(settings=short, device=device).fit_predict(memory, visible, train, select, 0)
    assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("direction", "reaches"), [("memory_to_new", True), ("new_to_memory", False)])
def test_memory_reaches_new_rollouts_only_in_the_direction_of_the_paper(
    memory: Snapshot, direction: Direction, reaches: bool
) -> None:
    torch.manual_seed(0)
    network, paper = PaperNetwork(DIMENSION, SMALL), Paper(direction)
    remembered = np.arange(QUERIES) < 24
    before = paper.predict(network, memory, remembered)
    x, own = memory.thinking_x.copy(), remembered[query_of_thinkings(memory)]
    x[own] = -x[own]
    after = paper.predict(network, replace(memory, thinking_x=x), remembered)
    assert (np.abs(after - before)[~own].max() > 1e-6) == reaches
    assert np.abs(after - before)[own].max() > 1e-6


@pytest.mark.parametrize("direction", ["memory_to_new", "new_to_memory"])
def test_graph_has_the_documented_edges(memory: Snapshot, direction: Direction) -> None:
    remembered = np.arange(QUERIES) < 24
    graph = paper_graph(memory, np.zeros((QUERIES * GROUP, DIMENSION), np.float32), remembered, direction)
    source, target = graph.edges[SIMILAR].numpy()
    neighbour, owner = (source, target) if direction == "memory_to_new" else (target, source)
    assert remembered[neighbour].all()
    assert (neighbour != owner).all()
    np.testing.assert_array_equal(np.bincount(owner), np.full(QUERIES, 7))
    one, other = graph.edges[COMPETES].numpy()
    query = query_of_thinkings(memory)
    np.testing.assert_array_equal(query[one], query[other])
    assert len(set(zip(one.tolist(), other.tolist(), strict=True))) == len(one) == QUERIES * GROUP * (GROUP - 1)
    assert (one != other).all()


def test_answers_of_a_snapshot_are_embedded_once(memory: Snapshot) -> None:
    asked: list[str] = []

    def embed(texts: Sequence[str]) -> FloatMatrix:
        asked.extend(texts)
        return np.ones((QUERIES * GROUP, DIMENSION), np.float32)

    train, select = parts()
    visible = np.where((train | select)[query_of_thinkings(memory)], rewards_of(memory), np.nan)
    paper, hidden = Paper(embed=embed, settings=PaperSettings(hidden=8, epochs=1)), hide_labels(memory)
    for seed in (0, 1):
        paper.fit_predict(hidden, visible, train, select, seed)
    assert len(asked) == len(set(asked)) == QUERIES * GROUP
