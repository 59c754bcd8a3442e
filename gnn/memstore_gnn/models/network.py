r"""Heterogeneous graph network that corrects what the votes on an answer say.

It reads the graph of `memstore_gnn.models.vote_graph`: queries, rollouts, answers and policies with the memory's own
relations. A round has two `HeteroConv`s of GraphSAGE convolutions (arXiv 1706.02216) with mean aggregation:

.. math::
    h_t &= \mathrm{GELU}\big(W_p h_{policy(t)} + W_q h_{query(t)} + W_a h_{answer(t)} + W_0 h_t\big) \\
    h_a &\leftarrow \mathrm{LayerNorm}\big(h_a + V_1 \, \mathrm{mean}_{t \to a} h_t + V_2 h_a\big)

and the same for queries. The correction of an answer's log odds is :math:`\mathrm{MLP}(h_a, h_{query(a)})`. It is zero
before training, and equal for all rollouts with the answer.

Messages stay within a query, so the correction of a query is the same for the whole graph and for any batch of queries.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from memstore.types import FloatVector
from memstore_gnn.models.settings import NetworkSettings
from memstore_gnn.models.vote_graph import WIDTHS

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

TO_THINKING = (
    ("policy", "wrote", "thinking"),
    ("query", "generates", "thinking"),
    ("answer", "rev_leads_to", "thinking"),
)
FROM_THINKING = (("thinking", "leads_to", "answer"), ("thinking", "rev_generates", "query"))
UPDATED = ("answer", "query")
"""Node types whose states are updated from round to round; those of policies stay."""


class _Round(nn.Module):
    """One round of messages: to the rollouts, and from them to answers and queries."""

    def __init__(self, hidden: int, dropout: float) -> None:
        from torch_geometric.nn import HeteroConv, SAGEConv  # takes seconds, and not every process has a network

        super().__init__()

        def convolutions(relations: Sequence[tuple[str, str, str]], root: bool) -> HeteroConv:
            made = {relation: SAGEConv((hidden, hidden), hidden, root_weight=root) for relation in relations}
            with warnings.catch_warnings():
                # PyG warns of node types that a convolution does not update; here the other one does.
                warnings.simplefilter("ignore", UserWarning)
                return HeteroConv(made, aggr="sum")

        self.to_thinking = convolutions(TO_THINKING, root=False)
        self.own = nn.Linear(hidden, hidden)
        self.from_thinking = convolutions(FROM_THINKING, root=True)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(hidden) for name in UPDATED})
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: dict[str, Tensor], edges: dict[tuple[str, str, str], Tensor]) -> dict[str, Tensor]:
        received = self.to_thinking(states, {name: edges[name] for name in TO_THINKING})["thinking"]
        thinking = self.dropout(functional.gelu(received + self.own(states["thinking"])))
        sent = self.from_thinking(states | {"thinking": thinking}, {name: edges[name] for name in FROM_THINKING})
        updated = {name: self.norms[name](states[name] + sent[name]) for name in UPDATED}
        return states | {"thinking": thinking} | updated


class RewardNetwork(nn.Module):
    """Correction of the log odds of each answer; the module's docstring has the equations.

    Shapes:
        - **input:** the graph of `vote_graph` with A answers
        - **output:** float32 :math:`(A)`
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.read = nn.ModuleDict({name: nn.Linear(width, hidden) for name, width in WIDTHS.items()})
        self.rounds = nn.ModuleList(_Round(hidden, settings.dropout) for _ in range(settings.rounds))
        last = nn.Linear(hidden, 1)
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.GELU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, data: HeteroData) -> Tensor:
        states = {name: functional.gelu(read(data[name].x)) for name, read in self.read.items()}
        for one in self.rounds:
            states = one(states, data.edge_index_dict)
        both = torch.cat((states["answer"], states["query"][data["answer"].query]), dim=1)
        out: Tensor = self.head(both).squeeze(1)
        return out


@dataclass(frozen=True)
class Correction:
    """What corrects the log odds by votes: plain counts, and an ensemble of networks, each as far as it is trusted.

    Attributes:
        trust: factor of the mean correction by the networks, 0 to 1, chosen on held-out queries
            (`memstore_gnn.training.fit_network`).
        counts: by data set, the share of the log odds by plain counts of the votes, 0 to 1, chosen in the same way;
            votes by reliability have the rest. 0 for other data sets.
    """

    networks: tuple[RewardNetwork, ...] = ()
    trust: float = 0.0
    counts: Mapping[str, float] = field(default_factory=dict, hash=False)

    def of(self, data: HeteroData) -> FloatVector:
        """Correction of the log odds of each answer of a graph, float64 [A]; 0 without networks."""
        answers = len(data["answer"].x)
        if not self.networks or not self.trust or not answers:
            return np.zeros(answers)
        data = copy.copy(data).to(next(self.networks[0].parameters()).device)
        with torch.inference_mode():
            mean = torch.stack([network(data) for network in self.networks]).double().mean(dim=0)
        return self.trust * np.asarray(mean.cpu().numpy())


NO_CORRECTION = Correction()
