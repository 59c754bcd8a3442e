r"""Reward model of the paper (MemReward, arXiv 2603.19310), implemented from its description, as a predictor.

Two layers of GATv2 (arXiv 2105.14491), with one convolution a relation and the mean over relations, width 512 and 4
heads. A rollout's logit is the scaled dot product of its query and its response:

.. math::
    \mathrm{logit} = \frac{\langle W_q q, W_r [\mathrm{thinking}, \mathrm{answer}] \rangle}{\sqrt{512}} + b

The loss is binary cross-entropy on the labelled rollouts, and the weights of the epoch with the best F1 on the
selection queries are kept. The network is trained on the memory alone; new rollouts are attached afterwards (see
`paper_graph`). The description leaves open the self-loops (added if both ends have the same type), the dropout, the
learning rate and the patience. Labels are targets and never inputs, as in the paper.

An epoch computes about a dozen matrix products over all nodes of the memory, so training takes minutes where a
regression takes milliseconds; docs/evaluate.md has the times.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.nn import GATv2Conv, HeteroConv

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatMatrix, FloatVector
from memstore_gnn.baselines.constant import Constant
from memstore_gnn.baselines.paper_graph import (
    ANSWER_FEATURES,
    BETWEEN,
    COMPETES,
    SIMILAR,
    Direction,
    EdgeKind,
    PaperGraph,
    paper_graph,
)
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.data.hetero import subgraph
from memstore_gnn.features.outline import answer_texts

Embed = Callable[[Sequence[str]], FloatMatrix]


@dataclass(frozen=True)
class PaperSettings:
    """Size and training of the paper's network."""

    hidden: int = 512
    """Width, from the paper."""
    heads: int = 4
    """Attention heads, from the paper."""
    dropout: float = 0.2
    """Share of the hidden units dropped in training; not given in the paper."""
    learning_rate: float = 1e-3
    """Step size of AdamW; not given in the paper."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW; not given in the paper."""
    epochs: int = 100
    """Largest number of epochs."""
    patience: int = 30
    """Epochs without a better F1 on the selection queries after which training stops."""


class PaperNetwork(nn.Module):
    """Network of the paper; the module's docstring has the equation.

    Args:
        dimension: D, of the vectors.

    Shapes:
        - **input:** `PaperGraph` with Q queries and T rollouts
        - **output:** :math:`(T)`
    """

    def __init__(self, dimension: int, settings: PaperSettings) -> None:
        super().__init__()
        first = {"query": dimension, "thinking": dimension, "answer": dimension + ANSWER_FEATURES}
        second = dict.fromkeys(first, settings.hidden)
        self.layers = nn.ModuleList([_layer(first, settings), _layer(second, settings)])
        self.dropout = nn.Dropout(settings.dropout)
        self.of_query = nn.Linear(settings.hidden, settings.hidden)
        self.of_response = nn.Linear(2 * settings.hidden, settings.hidden)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, graph: PaperGraph) -> Tensor:
        """Logits float32 [T]."""
        x = graph.x
        for layer in self.layers:
            x = {name: self.dropout(functional.elu(state)) for name, state in layer(x, graph.edges).items()}
        query = self.of_query(x["query"])[graph.query]
        response = self.of_response(torch.cat((x["thinking"], x["answer"]), dim=1))
        return (query * response).sum(dim=1) / math.sqrt(query.shape[1]) + self.bias


def _layer(width: dict[str, int], settings: PaperSettings) -> HeteroConv:
    def convolution(kind: EdgeKind) -> GATv2Conv:
        source, _, target = kind
        each = settings.hidden // settings.heads
        ends = (width[source], width[target])
        return GATv2Conv(ends, each, heads=settings.heads, add_self_loops=source == target)

    return HeteroConv({kind: convolution(kind) for kind in (*BETWEEN, COMPETES, SIMILAR)}, aggr="mean")


class Paper:
    """Predictor `paper`, or `paper_reversed` with the edge direction of the released code.

    Args:
        direction: of the similarity edges; `new_to_memory` is that of the released code.
        embed: embeds non-blank answers; without it an answer node has only its three features.
        settings: size and training of the network.
        device: a torch device.
    """

    def __init__(
        self,
        direction: Direction = "memory_to_new",
        embed: Embed | None = None,
        settings: PaperSettings | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.name = "paper" if direction == "memory_to_new" else "paper_reversed"
        self._direction: Direction = direction
        self._embed = embed
        self._settings = settings or PaperSettings()
        self._device = torch.device(device)
        self._last: _AnswerVectors | None = None

    def fit_predict(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> FloatVector:
        known = np.isfinite(reward)
        if len(np.unique(reward[known] > 0.5)) < 2:
            return Constant().fit_predict(snapshot, reward, train, select, seed)
        network = self.fit(snapshot, reward, train, select, seed)
        return self.predict(network, snapshot, train | select)

    def fit(
        self, snapshot: Snapshot, reward: FloatVector, train: BoolVector, select: BoolVector, seed: int
    ) -> PaperNetwork:
        """Train a network on the memory, that is, on the queries of `train` and `select`."""
        memory = train | select
        part = subgraph(snapshot, snapshot.queries["id"].to_numpy()[memory].tolist())
        rows = memory[query_of_thinkings(snapshot)]
        every = np.ones(part.queries.num_rows, np.bool_)
        graph = paper_graph(part, self._answer_x(snapshot)[rows], every, self._direction).to(self._device)
        trained = train[memory][query_of_thinkings(part)]
        return _fit(graph, reward[rows], trained, self._settings, seed, self._device)

    def predict(self, network: PaperNetwork, snapshot: Snapshot, memory: BoolVector) -> FloatVector:
        """Predict probabilities, float64 [T], with every query attached to the queries of the memory (bool [Q])."""
        graph = paper_graph(snapshot, self._answer_x(snapshot), memory, self._direction).to(self._device)
        with torch.inference_mode():
            return np.asarray(torch.sigmoid(network.eval()(graph)).double().cpu().numpy())

    def _answer_x(self, snapshot: Snapshot) -> FloatMatrix:
        """Vectors of the answers, float32 [T, D], computed once for a snapshot; zero for a blank answer."""
        if self._last is None or self._last.snapshot() is not snapshot:
            self._last = _AnswerVectors(weakref.ref(snapshot), _embed_answers(snapshot, self._embed))
        return self._last.x


@dataclass(frozen=True)
class _AnswerVectors:
    snapshot: weakref.ref[Snapshot]
    x: FloatMatrix


def _embed_answers(snapshot: Snapshot, embed: Embed | None) -> FloatMatrix:
    out = np.zeros((snapshot.thinkings.num_rows, snapshot.thinking_x.shape[1]), np.float32)
    if embed is None:
        return out
    texts: list[str] = answer_texts(snapshot).to_pylist()
    written = sorted({text for text in texts if text.strip()})
    if written:
        vectors, row = embed(written), {text: position for position, text in enumerate(written)}
        rows = np.array([row.get(text, -1) for text in texts])
        out[rows >= 0] = vectors[rows[rows >= 0]]
    return out


def _fit(
    graph: PaperGraph,
    reward: FloatVector,
    trained: BoolVector,
    settings: PaperSettings,
    seed: int,
    device: torch.device,
) -> PaperNetwork:
    """Train until the F1 on the selection rollouts stops rising, and keep the best weights."""
    known = np.isfinite(reward)
    label = torch.from_numpy(np.nan_to_num(reward)).float().to(device)
    learn = torch.from_numpy(known & trained).to(device)
    held_back = torch.from_numpy(known & ~trained).to(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        network = PaperNetwork(graph.x["query"].shape[1], settings).to(device)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        best, best_epoch = -1.0, 0
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        for epoch in range(settings.epochs):
            network.train()
            loss = functional.binary_cross_entropy_with_logits(network(graph)[learn], label[learn])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            reached = _f1(network, graph, label, held_back) if bool(held_back.any()) else float(epoch)
            if reached > best:
                best, best_epoch = reached, epoch
                weights = {name: value.clone() for name, value in network.state_dict().items()}
            elif epoch - best_epoch >= settings.patience:
                break
    network.load_state_dict(weights)
    return network


@torch.inference_mode()
def _f1(network: PaperNetwork, graph: PaperGraph, label: Tensor, rows: Tensor) -> float:
    predicted, right = network.eval()(graph)[rows] > 0, label[rows] > 0.5
    both = float((predicted & right).sum())
    return 2 * both / max(float(predicted.sum() + right.sum()), 1.0)
