"""The network's correction of what votes say, for groups of new rollouts.

Groups that see exactly the stored votes of their query have one graph of them. Each other group has a graph of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from memstore.types import FloatVector, IntVector
from memstore_gnn.data.separate import ranges
from memstore_gnn.models.network import Correction
from memstore_gnn.models.vote_graph import Voters, Votes, vote_graph
from memstore_gnn.scoring.leave_out import LeaveOut

AT_ONCE = 200_000
"""Votes in a batch of graphs, about."""


def corrections(correction: Correction, seen: LeaveOut, voter: IntVector, voters: Voters) -> FloatVector:
    """Correction of the log odds of each new rollout's answer, float64 [F]; 0 without an answer.

    Args:
        voter: int64 [C], voter of each cell.
    """
    votes = seen.votes
    query = votes.query_of_group
    # The graph of each group: that of its query, or the next number of its own.
    graph = np.where(seen.complete, query, int(query.max(initial=-1)) + 1 + np.arange(len(query)))
    _, first = np.unique(graph, return_index=True)
    fresh = votes.group, votes.answer[votes.stored :]
    answers = int(votes.answer.max(initial=-1)) + 1
    wanted = np.where(fresh[1] >= 0, graph[fresh[0]] * answers + fresh[1], -1)
    found = np.zeros(len(wanted))
    for part in _batches(seen, first):
        keys, values = _of_graphs(correction, seen, voter, voters, part, graph, answers)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1) if len(keys) else np.zeros(len(wanted), int)
        inside = keys[place] == wanted if len(keys) else np.zeros(len(wanted), np.bool_)
        found[inside] = values[place[inside]]
    return found


def _batches(seen: LeaveOut, groups: IntVector) -> Iterator[IntVector]:
    """Cut groups, each of which stands for a graph, into batches of about `AT_ONCE` votes."""
    stored = np.bincount(seen.votes.query[: seen.votes.stored], minlength=int(seen.votes.query.max()) + 1)
    batch = np.cumsum(stored[seen.votes.query_of_group[groups]]) // AT_ONCE
    for one in np.unique(batch):
        yield groups[batch == one]


def _of_graphs(
    correction: Correction,
    seen: LeaveOut,
    voter: IntVector,
    voters: Voters,
    groups: IntVector,
    graph: IntVector,
    answers: int,
) -> tuple[IntVector, FloatVector]:
    """Corrections of all answers of some groups' graphs, and their keys graph * answers + answer, ascending."""
    votes, alone = seen.votes, groups[~seen.complete[groups]]
    of, vote = ranges(votes.query[: votes.stored], votes.query_of_group[groups])
    group = groups[of]
    own = votes.own_group * votes.stored + votes.own
    kept = ~np.isin(group * votes.stored + vote, own) | seen.complete[group]
    group, vote = group[kept], vote[kept]
    new = np.flatnonzero(np.isin(votes.group, alone))
    vote, group = np.concatenate((vote, votes.stored + new)), np.concatenate((group, votes.group[new]))
    name = graph[group]
    names, query = np.unique(name, return_inverse=True)
    answer = votes.answer[vote]
    keys, number = np.unique((name * answers + answer)[answer >= 0], return_inverse=True)
    numbered = np.full(len(answer), -1)
    numbered[answer >= 0] = number
    cast = Votes(
        voter[votes.cell[vote]],
        query,
        numbered,
        seen.share(group, vote),
        np.searchsorted(names, keys // max(answers, 1)),
        len(names),
    )
    return keys, correction.of(vote_graph(cast, voters))
