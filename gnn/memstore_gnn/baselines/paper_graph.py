"""Graph of the paper's reward model (MemReward, arXiv 2603.19310) as tensors.

Each rollout has a thinking node and an answer node of its own; rollouts share no node. The memory consists of the
labelled queries. Every query, in the memory or new, is connected to the `NEIGHBOURS` most similar *other* queries of
the memory; new queries are never neighbours. Edges, source -> target, in the direction of the messages:

    query -> thinking, query -> answer, thinking -> answer, and the reverse of each
    thinking -> every other thinking of the query
    neighbour -> query, as in the paper (`memory_to_new`), or query -> neighbour, as in the released code
        (`new_to_memory`), where no message flows from the memory to a new rollout
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatMatrix, IntVector
from memstore_gnn.data.groups import Array, groups_of, query_of_thinkings
from memstore_gnn.data.neighbours import Labelled
from memstore_gnn.features.outline import answer_values

Direction: TypeAlias = Literal["memory_to_new", "new_to_memory"]
EdgeKind: TypeAlias = tuple[str, str, str]

NEIGHBOURS = 7
"""Similar queries of each query, as in the paper."""
SIMILAR: EdgeKind = ("query", "similar_to", "query")
COMPETES: EdgeKind = ("thinking", "competes_with", "thinking")
BETWEEN: tuple[EdgeKind, ...] = (
    ("query", "generates_reasoning", "thinking"),
    ("thinking", "rev_generates_reasoning", "query"),
    ("query", "generates", "answer"),
    ("answer", "rev_generates", "query"),
    ("thinking", "leads_to", "answer"),
    ("answer", "rev_leads_to", "thinking"),
)
ANSWER_FEATURES = 3
"""Numeric value, whether there is an answer, and whether it is the majority's."""


class PaperGraph(NamedTuple):
    """Tensors of the graph.

    Attributes:
        x: node features by type: query float32 [Q, D], thinking float32 [T, D], answer float32 [T, D + 3].
        edges: int64 [2, E] by kind, source and target.
        query: int64 [T], query of each rollout.
    """

    x: dict[str, Tensor]
    edges: dict[EdgeKind, Tensor]
    query: Tensor

    def to(self, device: torch.device) -> PaperGraph:
        """Move the graph to a device."""
        x = {name: part.to(device) for name, part in self.x.items()}
        edges = {kind: part.to(device) for kind, part in self.edges.items()}
        return PaperGraph(x, edges, self.query.to(device))


def paper_graph(snapshot: Snapshot, answer_x: FloatMatrix, memory: BoolVector, direction: Direction) -> PaperGraph:
    """Build the graph of a snapshot's rollouts.

    Args:
        answer_x: float32 [T, D], vector of each rollout's answer.
        memory: bool [Q], queries that can be neighbours.
        direction: of the similarity edges.
    """
    query = query_of_thinkings(snapshot)
    rollouts = np.arange(len(query))
    ends = {"query": query, "thinking": rollouts, "answer": rollouts}
    edges = {kind: _edge_index(ends[kind[0]], ends[kind[2]]) for kind in BETWEEN}
    edges[COMPETES] = _edge_index(*_pairs_in_groups(query))
    neighbour, owner = _neighbours(snapshot, memory)
    edges[SIMILAR] = _edge_index(neighbour, owner) if direction == "memory_to_new" else _edge_index(owner, neighbour)
    x = {
        "query": torch.from_numpy(np.array(snapshot.query_x, np.float32)),
        "thinking": torch.from_numpy(np.array(snapshot.thinking_x, np.float32)),
        "answer": torch.from_numpy(np.concatenate((answer_x, _answer_features(snapshot)), axis=1, dtype=np.float32)),
    }
    return PaperGraph(x, edges, torch.from_numpy(query))


def _edge_index(source: IntVector, target: IntVector) -> Tensor:
    return torch.from_numpy(np.stack((source, target)).astype(np.int64))


def _pairs_in_groups(query: IntVector) -> tuple[IntVector, IntVector]:
    """All ordered pairs of two rollouts of one query."""
    order = np.argsort(query, kind="stable")
    count = np.bincount(query)
    size, start = count[query[order]], (np.cumsum(count) - count)[query[order]]
    first = np.repeat(np.arange(len(order)), size)
    within = np.arange(len(first)) - np.repeat(np.cumsum(size) - size, size)
    second = start[first] + within
    apart = first != second
    return order[first[apart]], order[second[apart]]


def _neighbours(snapshot: Snapshot, memory: BoolVector) -> tuple[IntVector, IntVector]:
    """Pairs of a neighbour in the memory and the query it belongs to, int64 [E] both."""
    rows = np.flatnonzero(memory & snapshot.query_has_x)
    candidates = Labelled(snapshot.query_x[rows], np.zeros(len(rows)), rows, rows)
    every = np.arange(snapshot.queries.num_rows)
    near = candidates.nearest(snapshot.query_x, every, snapshot.query_has_x, NEIGHBOURS)
    owner = np.repeat(every, near.present.sum(axis=1))
    return rows[near.position[near.present]] if len(rows) else owner, owner


def _answer_features(snapshot: Snapshot) -> Array:
    """Features of each answer, float64 [T, 3]: damped numeric value (0 for none), answered, majority."""
    groups = groups_of(snapshot)
    values: list[str] = answer_values(snapshot).to_pylist()
    number = np.array([_number(value) for value in values])
    majority = groups.answered & (groups.votes >= groups.query.maximum(groups.votes))
    return np.column_stack([np.sign(number) * np.log1p(np.abs(number)) / 10.0, groups.answered, majority])


def _number(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        return 0.0
    return number if np.isfinite(number) else 0.0
