r"""Heterogeneous attention network that corrects the logit of the logistic base.

Messages flow from source to target in two rounds:

1. within a query, without labels: thinking -> answer, thinking -> query, and from both back to the thinking;
2. from the memory: labelled thinking -> thinking and labelled query -> query -> thinking, between different queries
   only, with the neighbour's label as part of the message.

Attention is that of GATv2 (arXiv 2105.14491) with the cosine similarity as edge feature. With node states :math:`h`, a
labelled neighbour :math:`j` of node :math:`i`, its label :math:`y_j` and cosine :math:`c_{ij}`:

.. math::
    e_{ij} = a^\top \mathrm{LeakyReLU}(W_t h_i + W_s h_j + w_e c_{ij}) + \beta c_{ij}, \qquad
    m_i = \sum_j \mathrm{softmax}_j(e_{ij}) \, (W_v h_j + w_y (2 y_j - 1))

Labels, and features made from labels, enter in the last round only, and no message passes between queries afterwards. A
query's own labels therefore cannot reach its own rollouts, and all labelled queries can be trained on at once, each
with the labels of all others as input.

The correction is averaged over the rollouts of a query that share an answer, because they are right or wrong together.
It is zero before training, and it does not depend on the other groups of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.utils import scatter, softmax

from memstore_gnn.models.settings import NetworkSettings

NEGATIVE_SLOPE = 0.2
"""Slope of LeakyReLU below zero, as in GATv2."""


class NeighbourTensors(NamedTuple):
    """Labelled neighbours of N nodes.

    position: int64 [N, k], rows of a `LabelledStates`. cosine: float32 [N, k]. present: bool [N, k].
    """

    position: Tensor
    cosine: Tensor
    present: Tensor


@dataclass(frozen=True)
class GroupTensors:
    """Whole groups as tensors: T rollouts of Q queries with A answers (a missing answer is an answer of its own).

    Attributes:
        features: float32 [T, F], standardised, label-free; part of the states that other nodes read.
        near_labels: float32 [T, N], standardised features of neighbours' labels; read by the rollout itself only.
        thinking_x: float32 [T, P], projected vectors.
        query_x: float32 [Q, P], projected vectors.
        query: int64 [T], query of each rollout, 0..Q-1.
        answer: int64 [T], answer of each rollout, 0..A-1.
        answers: A.
        near_thinking: labelled neighbours of the thinkings, [T, k].
        near_query: labelled neighbours of the queries, [Q, k].
    """

    features: Tensor
    near_labels: Tensor
    thinking_x: Tensor
    query_x: Tensor
    query: Tensor
    answer: Tensor
    answers: int
    near_thinking: NeighbourTensors
    near_query: NeighbourTensors

    @property
    def widths(self) -> tuple[int, int, int]:
        """F, N and P: the input widths of a network for these groups."""
        return self.features.shape[1], self.near_labels.shape[1], self.query_x.shape[1]

    def take(self, rows: Tensor) -> GroupTensors:
        """Select groups; `rows` (int64) are all rollouts of some queries."""
        queries, query = torch.unique(self.query[rows], return_inverse=True)
        answers, answer = torch.unique(self.answer[rows], return_inverse=True)
        return GroupTensors(
            features=self.features[rows],
            near_labels=self.near_labels[rows],
            thinking_x=self.thinking_x[rows],
            query_x=self.query_x[queries],
            query=query,
            answer=answer,
            answers=len(answers),
            near_thinking=NeighbourTensors(*(part[rows] for part in self.near_thinking)),
            near_query=NeighbourTensors(*(part[queries] for part in self.near_query)),
        )


def whole_queries(query: Tensor, rollouts: int) -> list[Tensor]:
    """Cut rollouts into blocks of whole queries with about `rollouts` rows each.

    Args:
        query: int64 [T], query of each rollout.

    Returns:
        Rows of each block, int64.
    """
    order = torch.argsort(query, stable=True)
    ends = torch.cumsum(torch.bincount(query), dim=0)
    blocks, start = [], 0
    while start < len(order):
        fitting = int(torch.searchsorted(ends, start + rollouts, right=True))
        end = int(ends[fitting - 1]) if fitting else 0
        if end <= start:
            end = int(ends[torch.searchsorted(ends, start, right=True)])
        blocks.append(order[start:end])
        start = end
    return blocks


class NodeStates(NamedTuple):
    """Label-free node states after round one: thinking float32 [T, H], query float32 [Q, H]."""

    thinking: Tensor
    query: Tensor


@dataclass(frozen=True)
class LabelledStates:
    """States and labels of the labelled nodes of a memory.

    Attributes:
        thinking: float32 [L, H], states of the labelled thinkings.
        thinking_label: float32 [L], in 0..1.
        query: float32 [M, H], states of the labelled queries.
        query_label: float32 [M], in 0..1.
    """

    thinking: Tensor
    thinking_label: Tensor
    query: Tensor
    query_label: Tensor


class KeyValues(NamedTuple):
    """Keys and values of L labelled nodes for one `CrossAttention`.

    key: float32 [L, H]. value: float32 [L, H]. label: float32 [L], in 0..1.
    """

    key: Tensor
    value: Tensor
    label: Tensor


class LabelledKeyValues(NamedTuple):
    """Keys and values of both kinds of labelled nodes, computed once so that a batch does not pay for the memory."""

    thinking: KeyValues
    query: KeyValues


class AttentionPooling(nn.Module):
    r"""Attention-weighted sum of the members of each cell.

    .. math::
        p_c = \sum_{i \in c} \mathrm{softmax}_{i \in c}(\mathrm{MLP}(h_i)) \, W_v h_i

    Shapes:
        - **input:** members :math:`(N, H)`, cell of each member :math:`(N)`, number of cells :math:`C`
        - **output:** :math:`(C, H)`
    """

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.Sequential(
            nn.Linear(hidden, hidden), nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(hidden, heads)
        )
        self.value = nn.Linear(hidden, hidden)

    def forward(self, members: Tensor, cell: Tensor, cells: int) -> Tensor:
        weight = softmax(self.attention(members), cell, num_nodes=cells)
        value = self.value(members).unflatten(1, (self.heads, -1))
        return scatter((weight[..., None] * value).flatten(1), cell, dim=0, dim_size=cells, reduce="sum")


class CrossAttention(nn.Module):
    r"""Attention of nodes over their labelled neighbours, with the labels in the values.

    The equation is :math:`m_i` in the module's docstring. A node without neighbours receives zero.

    Shapes:
        - **input:** nodes :math:`(N, H)`, neighbours :math:`(N, k)`, keys and values of the labelled nodes
          :math:`(L, H)`
        - **output:** :math:`(N, H)`
    """

    def __init__(self, hidden: int, heads: int, label_dropout: float) -> None:
        super().__init__()
        self.heads, self.label_dropout = heads, label_dropout
        self.target = nn.Linear(hidden, hidden)
        self.source = nn.Linear(hidden, hidden)
        self.edge = nn.Linear(1, hidden, bias=False)
        self.attention = nn.Parameter(torch.empty(heads, hidden // heads))
        nn.init.normal_(self.attention, std=0.1)
        self.inverse_temperature = nn.Parameter(torch.tensor(5.0))
        self.value = nn.Linear(hidden, hidden)
        self.label = nn.Linear(1, hidden, bias=False)

    def keys_and_values(self, states: Tensor, label: Tensor) -> KeyValues:
        """Project labelled nodes (states float32 [L, H], labels float32 [L]) to keys and values."""
        return KeyValues(self.source(states), self.value(states), label)

    def forward(self, nodes: Tensor, near: NeighbourTensors, labelled: KeyValues) -> Tensor:
        shape = (*near.position.shape, self.heads, self.attention.shape[1])
        cosine = near.cosine[..., None]
        if not len(labelled.label):
            return torch.zeros_like(nodes)
        mixed = self.target(nodes)[:, None] + labelled.key[near.position] + self.edge(cosine)
        logit = (functional.leaky_relu(mixed, NEGATIVE_SLOPE).view(shape) * self.attention).sum(-1)
        logit = logit + self.inverse_temperature * cosine
        present = near.present
        if self.training:
            present = present & (torch.rand(present.shape, device=present.device) >= self.label_dropout)
        weight = logit.masked_fill(~present[..., None], -1e9).softmax(dim=1) * present.any(dim=1)[:, None, None]
        value = labelled.value[near.position] + self.label(2.0 * labelled.label[near.position][..., None] - 1.0)
        return (weight[..., None] * value.view(shape)).sum(dim=1).flatten(1)


class RewardNetwork(nn.Module):
    """Correction of each rollout's logit; the module's docstring has the equations.

    Args:
        features: width F of the label-free features.
        near_labels: width N of the features of neighbours' labels.
        projection: width P of the projected vectors.

    Shapes:
        - **input:** `GroupTensors` of T rollouts and Q queries, `LabelledStates` of L thinkings and M queries
        - **output:** :math:`(T)`
    """

    def __init__(self, features: int, near_labels: int, projection: int, settings: NetworkSettings) -> None:
        super().__init__()
        hidden, heads = settings.hidden, settings.heads
        self.widths = (features, near_labels, projection)
        self.dropout = nn.Dropout(settings.dropout)
        self.read = nn.Linear(features + 3 * projection, hidden)
        self.to_answer = AttentionPooling(hidden, heads)
        self.to_query = AttentionPooling(hidden, heads)
        self.norm = nn.LayerNorm(hidden)
        self.thinking_attention = CrossAttention(hidden, heads, settings.label_dropout)
        self.query_attention = CrossAttention(hidden, heads, settings.label_dropout)
        self.mix = nn.Linear(4 * hidden + near_labels, hidden)
        self.head = nn.Linear(hidden, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def encode(self, groups: GroupTensors) -> NodeStates:
        """Run round one: label-free states of the groups' thinkings and queries."""
        query_x = groups.query_x[groups.query]
        product = groups.thinking_x * query_x
        x = torch.cat((groups.features, groups.thinking_x, query_x, product), dim=1)
        own = self.dropout(functional.gelu(self.read(self.dropout(x))))
        answer = self.to_answer(own, groups.answer, groups.answers)
        query = self.to_query(own, groups.query, len(groups.query_x))
        return NodeStates(self.norm(own + answer[groups.answer] + query[groups.query]), query)

    def keys_and_values(self, labelled: LabelledStates) -> LabelledKeyValues:
        """Project the labelled nodes for `correct`; valid as long as the weights do not change."""
        return LabelledKeyValues(
            self.thinking_attention.keys_and_values(labelled.thinking, labelled.thinking_label),
            self.query_attention.keys_and_values(labelled.query, labelled.query_label),
        )

    def correct(self, groups: GroupTensors, states: NodeStates, labelled: LabelledStates | LabelledKeyValues) -> Tensor:
        """Run round two: the correction of each rollout's logit, float32 [T]."""
        memory = self.keys_and_values(labelled) if isinstance(labelled, LabelledStates) else labelled
        thinking = self.thinking_attention(states.thinking, groups.near_thinking, memory.thinking)
        query = self.query_attention(states.query, groups.near_query, memory.query)
        parts = (states.thinking, states.query[groups.query], thinking, query[groups.query], groups.near_labels)
        mixed = self.dropout(functional.gelu(self.mix(torch.cat(parts, dim=1))))
        single = self.head(mixed).squeeze(1)
        return scatter(single, groups.answer, dim=0, dim_size=groups.answers, reduce="mean")[groups.answer]
