"""Graph of the votes on some queries, as PyG `HeteroData`: what the network of `memstore_gnn.models.network` reads.

Nodes and relations are those of the memory (`memstore_gnn.data.hetero.to_hetero`): who wrote a rollout, which query it
belongs to, which answer it leads to. New rollouts are attached in the same way: by the text of their query, by the
value of their answer, and by the name and step of their policy. Nodes carry what votes say
(`memstore_gnn.features.dawid_skene`), never a text and never a label:

    thinking  2   weight of the vote; whether there is an answer
    answer    6   log odds by all votes; share of the votes; evidence; number of votes; whether it leads; its posterior
                  less the best one
    query     6   number of answers; share and posterior of the best; posterior that all are wrong; entropy; rollouts
    policy    5   reliability; its standard error; rollouts; mean reliability and number of wrong answers of the dataset

The graph of a query is a component of its own, but for the policies that several queries share. No message leads to a
policy, so a query's result does not depend on the other queries of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from memstore.types import FloatVector, IntVector
from memstore_gnn.features.dawid_skene import NOBODY, Reliabilities, posterior_of
from memstore_gnn.models.calibration import log_odds

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

WIDTHS = {"thinking": 2, "answer": 6, "query": 6, "policy": 5}
"""Features of each node type."""


@dataclass(frozen=True)
class Voters:
    """Reliabilities of V policies at their steps.

    Attributes:
        reliability, error: float64 [V], the probability that a rollout is right, and its standard error.
        rollouts: float64 [V], rollouts that it was estimated from.
        mean, wrong_values: float64 [V], those of the policy's dataset, see `Reliabilities`.
        evidence: float64 [V], evidence of one vote.
    """

    reliability: FloatVector
    error: FloatVector
    rollouts: FloatVector
    mean: FloatVector
    wrong_values: FloatVector
    evidence: FloatVector

    @classmethod
    def of(cls, found: Reliabilities, voter: IntVector) -> Voters:
        """Take some policies of one dataset; -1 is a policy that the memory does not know, and counts as the mean."""
        known, place = voter >= 0, np.maximum(voter, 0)
        pad = len(found.policy) == 0
        policy, error, rollouts = (
            np.zeros(1) if pad else np.asarray(values, np.float64)
            for values in (found.policy, found.error, found.rollouts)
        )
        reliability = np.where(known, policy[place], found.mean)
        one = np.ones(len(voter))
        return cls(
            reliability,
            np.where(known, error[place], 0.5),
            np.where(known, rollouts[place], 0.0),
            found.mean * one,
            found.wrong_values * one,
            found.evidence(reliability),
        )

    @classmethod
    def concat(cls, parts: list[Voters]) -> Voters:
        """The policies of several parts, in their order."""
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Votes:
    """The votes of N rollouts on A answers of Q queries.

    Attributes:
        voter: int64 [N], 0..V-1.
        query: int64 [N], 0..Q-1.
        answer: int64 [N], 0..A-1; -1 without an answer.
        share: float64 [N], weight of the vote: n rollouts that were sampled together count as sqrt(n).
        query_of: int64 [A], query of each answer.
        queries: Q.
    """

    voter: IntVector
    query: IntVector
    answer: IntVector
    share: FloatVector
    query_of: IntVector
    queries: int

    def support(self, voters: Voters) -> FloatVector:
        """Evidence for each answer, float64 [A]; -inf for an answer that nobody gave."""
        given = self.answer >= 0
        evidence = voters.evidence[self.voter[given]] * self.share[given]
        support = np.bincount(self.answer[given], evidence, len(self.query_of))
        return np.where(self.count > 0, support, -np.inf)

    @property
    def count(self) -> IntVector:
        """Rollouts with each answer, int64 [A]."""
        return np.bincount(self.answer[self.answer >= 0], minlength=len(self.query_of))

    def take(self, rows: IntVector) -> Votes:
        """The votes of some rollouts, on the same answers and queries."""
        columns = {name: getattr(self, name)[rows] for name in ("voter", "query", "answer", "share")}
        return replace(self, **columns)

    def posterior(self, voters: Voters) -> FloatVector:
        """Probability of each answer by the votes, float64 [A]. It reads no verdict; a trainer may withhold one."""
        unknown = np.full(len(self.query_of), np.nan)
        return posterior_of(self.support(voters), self.query_of, self.queries, unknown, NOBODY)


def vote_graph(votes: Votes, voters: Voters) -> HeteroData:
    """Build the graph, with the features of the module's docstring as float32. Every answer has a vote."""
    from torch_geometric.data import HeteroData

    data = HeteroData()
    given = votes.answer >= 0
    posterior, count = votes.posterior(voters), votes.count
    size = np.maximum(np.bincount(votes.query, minlength=votes.queries), 1).astype(np.float64)
    share = count / size[votes.query_of]
    best, most = np.zeros(votes.queries), np.zeros(votes.queries)
    np.maximum.at(best, votes.query_of, posterior)
    np.maximum.at(most, votes.query_of, share)
    spread = posterior * np.log(np.maximum(posterior, 1e-9))
    answers = np.bincount(votes.query_of, minlength=votes.queries)
    columns: dict[str, list[NDArray[Any]]] = {
        "thinking": [votes.share, given],
        "answer": [
            log_odds(posterior) / 3.0,
            share * 2.0 - 1.0,
            votes.support(voters) / 2.0 - 1.0,
            np.log1p(count) - 1.0,
            share >= most[votes.query_of],
            posterior - best[votes.query_of],
        ],
        "query": [
            np.log1p(answers) - 1.0,
            most * 2.0 - 1.0,
            best * 2.0 - 1.0,
            1.0 - np.bincount(votes.query_of, posterior, votes.queries),
            -np.bincount(votes.query_of, spread, votes.queries),
            np.log(size) / 2.0 - 1.0,
        ],
        "policy": [
            log_odds(voters.reliability) / 2.0,
            voters.error * 4.0,
            np.log1p(voters.rollouts) / 4.0 - 1.0,
            log_odds(voters.mean) / 2.0,
            np.log(voters.wrong_values),
        ],
    }
    for name, values in columns.items():
        data[name].x = torch.from_numpy(np.stack([np.asarray(value, np.float32) for value in values], axis=1))
    data["answer"].query = torch.from_numpy(votes.query_of)
    _connect(data, votes, np.flatnonzero(given))
    return data


def _connect(data: HeteroData, votes: Votes, given: IntVector) -> None:
    """Add the relations that the network reads, with the names that `to_hetero` uses."""
    rows = np.arange(len(votes.voter))

    def edges(source: NDArray[np.int64], target: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.stack((source, target)))

    data["policy", "wrote", "thinking"].edge_index = edges(votes.voter, rows)
    data["query", "generates", "thinking"].edge_index = edges(votes.query, rows)
    data["thinking", "rev_generates", "query"].edge_index = edges(rows, votes.query)
    data["thinking", "leads_to", "answer"].edge_index = edges(given, votes.answer[given])
    data["answer", "rev_leads_to", "thinking"].edge_index = edges(votes.answer[given], given)
