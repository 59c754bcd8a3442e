"""Heterogeneous attention over a query's group and the labelled memory: a correction of the prior's logit.

Two rounds of messages, source -> target:

1. inside a query, without any label: thinking -> answer, thinking -> query, and from both back to the thinking;
2. from the memory: labelled thinking -> thinking and labelled query -> query -> thinking, between different
   queries only, the neighbour's label being part of the message.

Labels enter in the last round, as do features made of labels, and nothing passes between queries after it, so a
query's own labels cannot reach its own rollouts by any path (leave-own-query-out by construction): all labelled
queries are trained on at once, each seeing the labels of all others. Attention is that of GATv2 (arXiv 2105.14491)
with the cosine as edge feature.

The correction is one number an answer: rollouts of a query that reach the same answer are right or wrong
together. It is zero before training. No value depends on which groups are in the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch_geometric.utils import scatter, softmax

from memstore_gnn.models.settings import NetworkSettings


class Neighbours(NamedTuple):
    """Labelled neighbours of N nodes: rows of a `Memory` int64 [N, k], cosine float32 [N, k], present bool [N, k]."""

    position: Tensor
    cosine: Tensor
    present: Tensor


@dataclass(frozen=True)
class GroupTensors:
    """Whole groups as tensors: T rollouts of Q queries that reach A answers (a missing answer is one of its own).

    Attributes:
        features: float32 [T, F], standardised, label-free: part of the states that others read.
        near_labels: float32 [T, N], standardised features of neighbours' labels: read by the rollout itself only.
        thinking_x: float32 [T, P], projected vectors.
        query_x: float32 [Q, P].
        query: int64 [T], the query of each rollout, 0..Q-1.
        answer: int64 [T], its answer, 0..A-1.
        answers: A.
        near_thinking: [T, k]. near_query: [Q, k].
    """

    features: Tensor
    near_labels: Tensor
    thinking_x: Tensor
    query_x: Tensor
    query: Tensor
    answer: Tensor
    answers: int
    near_thinking: Neighbours
    near_query: Neighbours

    @property
    def widths(self) -> tuple[int, int, int]:
        """F, N and P: what a network for these groups is made with."""
        return self.features.shape[1], self.near_labels.shape[1], self.query_x.shape[1]

    def take(self, rows: Tensor) -> GroupTensors:
        """Some groups: `rows` (int64) are all rollouts of some queries."""
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
            near_thinking=Neighbours(*(part[rows] for part in self.near_thinking)),
            near_query=Neighbours(*(part[queries] for part in self.near_query)),
        )


def whole_queries(query: Tensor, rollouts: int) -> list[Tensor]:
    """Rows int64 of whole queries, in blocks of about so many rollouts; `query` is int64 [T]."""
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


class States(NamedTuple):
    """What round one made of some groups, label-free: thinking float32 [T, H], query float32 [Q, H]."""

    thinking: Tensor
    query: Tensor


@dataclass(frozen=True)
class Memory:
    """The labelled nodes as the network reads them.

    Attributes:
        thinking, query: float32 [L, H] and [M, H], their states.
        thinking_label, query_label: float32 [L] and [M], in 0..1.
    """

    thinking: Tensor
    thinking_label: Tensor
    query: Tensor
    query_label: Tensor


class Held(NamedTuple):
    """What one `Recall` reads of L labelled nodes, the same for whoever asks: source and value float32 [L, H].

    label: float32 [L], in 0..1.
    """

    source: Tensor
    value: Tensor
    label: Tensor


class HeldMemory(NamedTuple):
    """A memory as a network's two recalls read it: made once, so that a batch costs nothing of the memory's size."""

    thinking: Held
    query: Held


class Gather(nn.Module):
    """Messages of members to the node they share, weighed by attention: float32 [N, H] -> [cells, H]."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention = nn.Sequential(nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, heads))
        self.value = nn.Linear(hidden, hidden)

    def forward(self, members: Tensor, cell: Tensor, cells: int) -> Tensor:
        weight = softmax(self.attention(members), cell, num_nodes=cells)
        value = self.value(members).unflatten(1, (self.heads, -1))
        return scatter((weight[..., None] * value).flatten(1), cell, dim=0, dim_size=cells, reduce="sum")


class Recall(nn.Module):
    """Messages of labelled neighbours, labels included: float32 [N, H] and the memory's `Held` [L, H] -> [N, H].

    A node without neighbours receives zero.
    """

    def __init__(self, hidden: int, heads: int, label_dropout: float) -> None:
        super().__init__()
        self.heads, self.label_dropout = heads, label_dropout
        self.target = nn.Linear(hidden, hidden)
        self.source = nn.Linear(hidden, hidden)
        self.edge = nn.Linear(1, hidden, bias=False)
        self.attention = nn.Parameter(torch.empty(heads, hidden // heads))
        nn.init.normal_(self.attention, std=0.1)
        self.sharpness = nn.Parameter(torch.tensor(5.0))
        self.value = nn.Linear(hidden, hidden)
        self.label = nn.Linear(1, hidden, bias=False)

    def hold(self, memory: Tensor, label: Tensor) -> Held:
        """`memory` float32 [L, H] and `label` float32 [L] as `forward` reads them."""
        return Held(self.source(memory), self.value(memory), label)

    def forward(self, nodes: Tensor, near: Neighbours, held: Held) -> Tensor:
        shape = (*near.position.shape, self.heads, self.attention.shape[1])
        cosine = near.cosine[..., None]
        if not len(held.label):
            return torch.zeros_like(nodes)
        mixed = self.target(nodes)[:, None] + held.source[near.position] + self.edge(cosine)
        logit = (functional.leaky_relu(mixed, 0.2).view(shape) * self.attention).sum(-1) + self.sharpness * cosine
        present = near.present
        if self.training:
            present = present & (torch.rand(present.shape, device=present.device) >= self.label_dropout)
        weight = logit.masked_fill(~present[..., None], -1e9).softmax(dim=1) * present.any(dim=1)[:, None, None]
        value = held.value[near.position] + self.label(2.0 * held.label[near.position][..., None] - 1.0)
        return (weight[..., None] * value.view(shape)).sum(dim=1).flatten(1)


class RewardNetwork(nn.Module):
    """See the module's docstring; `features`, `near_labels` and `projection` are the widths F, N and P of its input."""

    def __init__(self, features: int, near_labels: int, projection: int, settings: NetworkSettings) -> None:
        super().__init__()
        hidden, heads = settings.hidden, settings.heads
        self.widths = (features, near_labels, projection)
        self.dropout = nn.Dropout(settings.dropout)
        self.read = nn.Linear(features + 3 * projection, hidden)
        self.to_answer = Gather(hidden, heads)
        self.to_query = Gather(hidden, heads)
        self.norm = nn.LayerNorm(hidden)
        self.recall_thinking = Recall(hidden, heads, settings.label_dropout)
        self.recall_query = Recall(hidden, heads, settings.label_dropout)
        self.mix = nn.Linear(4 * hidden + near_labels, hidden)
        self.head = nn.Linear(hidden, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def encode(self, groups: GroupTensors) -> States:
        """Round one: label-free states of a group's thinkings and of its query."""
        query_x = groups.query_x[groups.query]
        product = groups.thinking_x * query_x
        x = torch.cat((groups.features, groups.thinking_x, query_x, product), dim=1)
        own = self.dropout(functional.gelu(self.read(self.dropout(x))))
        answer = self.to_answer(own, groups.answer, groups.answers)
        query = self.to_query(own, groups.query, len(groups.query_x))
        return States(self.norm(own + answer[groups.answer] + query[groups.query]), query)

    def hold(self, memory: Memory) -> HeldMemory:
        """What `correct` reads of a memory; as long as the weights stay, it does too."""
        return HeldMemory(
            self.recall_thinking.hold(memory.thinking, memory.thinking_label),
            self.recall_query.hold(memory.query, memory.query_label),
        )

    def correct(self, groups: GroupTensors, states: States, memory: Memory | HeldMemory) -> Tensor:
        """Round two: the correction of each rollout's logit, float32 [T]."""
        held = self.hold(memory) if isinstance(memory, Memory) else memory
        thinking = self.recall_thinking(states.thinking, groups.near_thinking, held.thinking)
        query = self.recall_query(states.query, groups.near_query, held.query)
        parts = (states.thinking, states.query[groups.query], thinking, query[groups.query], groups.near_labels)
        mixed = self.dropout(functional.gelu(self.mix(torch.cat(parts, dim=1))))
        single = self.head(mixed).squeeze(1)
        return scatter(single, groups.answer, dim=0, dim_size=groups.answers, reduce="mean")[groups.answer]
