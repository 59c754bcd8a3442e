"""Label-free features of a rollout within its group: votes, cosines between vectors, and the outline of its text.

Labels, the policy's name and the reference answer are not read. The policy only determines which rollouts of a query
were sampled together, to separate a policy's agreement with itself from agreement between policies.
"""

from __future__ import annotations

import numpy as np

from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatMatrix, FloatVector
from memstore_gnn.data.groups import Array, Groups, over_answer, share_logit
from memstore_gnn.data.table import FeatureTable
from memstore_gnn.features.outline import outline_columns

AVERAGED = (
    "cosine_query",
    "cosine_centre",
    "cosine_same_less_other",
    "log_length-group",
    "query_numbers",
    "value_at_end",
)
"""Columns that are also averaged over the rollouts with the same answer."""


def structure_features(snapshot: Snapshot, groups: Groups) -> FeatureTable:
    """Votes, cosines and outline of every rollout: float32 [T, about 45]."""
    rows = snapshot.thinkings.num_rows
    columns = vote_columns(groups)
    columns |= geometry_columns(snapshot, groups)
    columns |= outline_columns(snapshot, groups)
    table = FeatureTable.from_columns(columns, rows)
    return table.concat(over_answer(table.select(name for name in AVERAGED if name in table.names), groups))


def vote_columns(groups: Groups) -> dict[str, Array]:
    """Vote features. In a group of one, `share` is 1 and `others_share` is 0."""
    votes, share, size = groups.votes, groups.share, groups.query.size
    first_of_answer = groups.answered & (groups.answer.rank(np.zeros(len(votes))) == 0)
    distinct = groups.query.sums(first_of_answer.astype(np.float64))[groups.query.cell]
    representative = np.where(first_of_answer, votes, 0.0)
    first = groups.query.maximum(representative)
    place = groups.query.rank(representative)
    second = groups.query.maximum(np.where(place == 1, representative, 0.0))
    entropy_terms = np.where(first_of_answer, -share * np.log(np.maximum(share, 1e-12)), 0.0)
    entropy = groups.query.sums(entropy_terms)[groups.query.cell]
    policy_votes = np.where(groups.answered, groups.policy_answer.size, 0)
    policy_share = policy_votes / groups.policy_group.size
    single = groups.policy_group.size == 1
    return {
        "share": share,
        "others_share": np.where(size > 1, (votes - groups.answered) / np.maximum(size - 1, 1), 0.0),
        "smoothed_share": (votes + 0.5) / (size + 1.5),
        "share_logit": share_logit(share, size),
        "log_votes": np.log1p(votes),
        "majority": groups.answered & (votes >= first),
        "majority_margin": (votes - np.where(votes >= first, second, first)) / size,
        "distinct": distinct / size,
        "log_distinct": np.log1p(distinct),
        "first_share": first / size,
        "second_share": second / size,
        "lead": (first - second) / size,
        "entropy": entropy / np.log(np.maximum(size, 2)),
        "pair_agreement": _pair_agreement(groups),
        "rank": _answer_rank(groups, first_of_answer),
        "log_size": np.log(size),
        "answered": groups.answered,
        "answered_share": groups.query.mean(groups.answered.astype(np.float64)),
        "share_of_answered": votes
        / np.maximum(groups.query.sums(groups.answered.astype(np.float64)), 1)[groups.query.cell],
        "own_share_less_share": np.where(single, 0.0, policy_share - share),
    }


def _pair_agreement(groups: Groups) -> FloatVector:
    """Probability that two rollouts of the query, drawn without replacement, agree."""
    size = groups.query.size
    agreeing = groups.query.sums(np.maximum(groups.votes - 1, 0))[groups.query.cell]
    return np.asarray(agreeing / np.maximum(size * (size - 1), 1))


def _answer_rank(groups: Groups, first_of_answer: Array) -> FloatVector:
    """Rank of the answer among the group's answers by votes, divided by their number; 1 without an answer."""
    votes = groups.votes
    order = groups.query.rank(np.where(first_of_answer, votes, -1.0)).astype(np.float64)
    place = np.zeros(len(groups.answer.count))
    place[groups.answer.cell[first_of_answer]] = order[first_of_answer]
    distinct = np.maximum(groups.query.sums(first_of_answer.astype(np.float64))[groups.query.cell], 1)
    return np.where(groups.answered, place[groups.answer.cell] / distinct, 1.0)


def geometry_columns(snapshot: Snapshot, groups: Groups) -> dict[str, Array]:
    """Mean cosines of a rollout's vector to its query, its group, and the rollouts with and without its answer."""
    x = snapshot.thinking_x
    known = snapshot.thinking_has_x
    query = _dots(x, snapshot.query_x[groups.query_of])
    self_dot = _dots(x, x)
    present = known.astype(np.float64)
    group_dot = _dots(x, groups.query.sums(x)[groups.query.cell]) - self_dot
    same_dot = _dots(x, groups.answer.sums(x)[groups.answer.cell]) - self_dot
    in_group = groups.query.sums(present)[groups.query.cell] - present
    in_answer = np.where(groups.answered, groups.answer.sums(present)[groups.answer.cell] - present, 0)
    other = in_group - in_answer
    mean_group = group_dot / np.maximum(in_group, 1)
    mean_same = np.where(in_answer > 0, same_dot / np.maximum(in_answer, 1), mean_group)
    mean_other = np.where(
        other > 0, (group_dot - np.where(in_answer > 0, same_dot, 0)) / np.maximum(other, 1), mean_group
    )
    both = (in_answer > 0) & (other > 0)
    return {
        "cosine_query": query,
        "cosine_query-group": query - groups.query.mean(query),
        "cosine_centre": mean_group,
        "cosine_centre-group": mean_group - groups.query.mean(mean_group),
        "cosine_group": groups.query.mean(mean_group),
        "cosine_same_less_other": np.where(both, mean_same - mean_other, 0.0),
        "no_vector": ~known,
    }


def _dots(a: FloatMatrix, b: Array) -> FloatVector:
    """Dot product of each pair of rows."""
    return np.einsum("td,td->t", a, b).astype(np.float64)
