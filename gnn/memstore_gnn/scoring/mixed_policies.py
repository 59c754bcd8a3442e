"""Rollouts under a policy's name that another policy seems to have written.

Nobody can check which policy wrote a rollout. But a policy is about as often right in one run as in its others. Where
the rollouts of one run, or those that were stored at one time, are right far more or less often than the policy's other
rollouts of the same dataset, a warning says so. Nothing is changed: a label, a vote and a score stay what they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtri

from memstore.records.ids import dataset_id, policy_id
from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import query_of_thinkings
from memstore_gnn.features.policy_reliability import TWO_SIDED
from memstore_gnn.scoring.ballots import Voter
from memstore_gnn.scoring.reliability import Estimated

LEAST_QUERIES = 8
"""Fewest queries that both parts of a policy's rollouts need to be compared."""
LEAST_GAP = 0.25
"""Smallest difference of the shares of right rollouts that gives a warning: queries of one dataset differ too."""
FALSE_ALARMS = 0.002
"""Probability of a warning where every part of the memory's rollouts is by the policy that it names."""


class Mixed(NamedTuple):
    """A part of a policy's rollouts that differs from its others.

    Attributes:
        part: which rollouts these are, such as `in run third`.
        here, elsewhere: share of right rollouts in the part, and among the policy's others.
        queries: number of queries of the part.
    """

    voter: Voter
    part: str
    here: float
    elsewhere: float
    queries: int


def mixed_in_memory(snapshot: Snapshot, estimates: Sequence[Estimated]) -> list[Mixed]:
    """Policies whose rollouts of one run, or of one time of storage, differ from their others; one entry a policy.

    Args:
        estimates: `estimate_reliabilities` of this snapshot.
    """
    return [found for one in estimates for found in _of_dataset(snapshot, one)]


def mixed_in_file(snapshot: Snapshot, new: Snapshot, probability: FloatVector) -> list[Mixed]:
    """Policies of new rollouts whose scores differ from the reliability that the memory stores for them.

    Args:
        probability: float64 [T], the scores of the rollouts of `new`; those that the memory holds are not compared.
    """
    edges = snapshot.edges["reliable_in"]
    ends = snapshot.policies["id"].take(pa.array(edges.source)), snapshot.datasets["id"].take(pa.array(edges.target))
    known = dict(zip(zip(*(end.to_pylist() for end in ends), strict=True), edges.properties.to_pylist(), strict=True))
    known_here = pc.is_in(new.thinkings["id"], value_set=snapshot.thinkings["id"].combine_chunks())
    fresh = np.flatnonzero(~known_here.to_numpy())
    if not len(fresh) or not known:
        return []
    named = _voters(new)
    voters = list(dict.fromkeys(named[row] for row in fresh.tolist()))
    place = {voter: position for position, voter in enumerate(voters)}
    part = np.array([place[named[row]] for row in fresh.tolist()], np.int64)
    here, _ = _shares(part, query_of_thinkings(new)[fresh], probability[fresh])
    unknown = dict.fromkeys(("reliability", "low", "high", "votes"), math.nan)
    values = [known.get((policy_id(one.policy or "", one.step), dataset_id(one.dataset)), unknown) for one in voters]
    reliability, low, high, votes = (np.array([one[name] for one in values], np.float64) for name in unknown)
    odd = np.flatnonzero(_differ(here, _Shares(reliability, (high - low) / TWO_SIDED, votes), len(voters)))
    return [
        Mixed(voters[one], "in the file", float(here.mean[one]), float(reliability[one]), int(here.queries[one]))
        for one in odd.tolist()
    ]


def warning_of(mixed: Sequence[Mixed]) -> str | None:
    """A sentence about the first of these policies; None without any."""
    if not mixed:
        return None
    (dataset, policy, step), part, here, elsewhere, queries = mixed[0]
    others = f" (the same holds for {len(mixed) - 1:,} more policies)" if len(mixed) > 1 else ""
    at = "" if step is None else f" at step {step}"
    return (
        f"of the rollouts of policy {policy}{at} {part}, on {queries:,} queries of {dataset}, {here:.0%} are right, "
        f"and {elsewhere:.0%} of its others{others}; if another policy wrote them, give them that policy's name"
    )


class _Shares(NamedTuple):
    """Shares of right rollouts, each float64 [K]: mean over queries, its standard error and the number of queries."""

    mean: FloatVector
    error: FloatVector
    queries: FloatVector


def _of_dataset(snapshot: Snapshot, estimated: Estimated) -> Iterator[Mixed]:
    part = estimated.ballots
    ballots = part.ballots
    answered = ballots.answer >= 0
    right = np.zeros(len(part.rows))
    right[answered] = estimated.reliability.posterior[ballots.answer[answered]]
    query = query_of_thinkings(snapshot)[part.rows]
    times = snapshot.thinkings["created_at"].take(part.rows)
    stored_at = times.cast(pa.int64()).fill_null(0).to_numpy()
    columns = [(snapshot.thinkings["run"].take(part.rows), "in run {}"), (times, "stored at {:%Y-%m-%d %H:%M:%S}")]
    kinds = [(column.combine_chunks().dictionary_encode(), words) for column, words in columns]
    order = np.argsort(ballots.policy, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(ballots.policy[order])) + 1):
        voter = part.voters[ballots.policy[rows[0]]]
        for encoded, words in kinds if voter.policy is not None else ():
            code = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy()[rows]
            compared = len(part.voters) * len(encoded.dictionary)
            found = _odd_part(code, query[rows], right[rows], stored_at[rows], compared)
            if found is not None and found[0] < len(encoded.dictionary):
                name = encoded.dictionary[found[0]].as_py()
                yield Mixed(voter, words.format(name), *found[1:])
                break


def _odd_part(
    code: IntVector, query: IntVector, right: FloatVector, stored_at: IntVector, compared: int
) -> tuple[int, float, float, int] | None:
    """The code whose rollouts differ most from all others, the shares here and elsewhere, and the number of queries.

    Of two codes that differ equally, the one that was stored later; None if none differs.
    """
    codes, part = np.unique(code, return_inverse=True)
    here, elsewhere = _shares(part, query, right)
    gap = np.where(_differ(here, elsewhere, compared), np.abs(here.mean - elsewhere.mean), 0.0)
    if not gap.any():
        return None
    first = np.full(len(codes), np.iinfo(np.int64).max)
    np.minimum.at(first, part, stored_at)
    odd = max(np.flatnonzero(gap > gap.max() - 1e-9).tolist(), key=lambda one: first[one])
    return int(codes[odd]), float(here.mean[odd]), float(elsewhere.mean[odd]), int(here.queries[odd])


def _shares(part: IntVector, query: IntVector, right: FloatVector) -> tuple[_Shares, _Shares]:
    """Shares of right rollouts (float64 [N]) in each part (int64 [N], 0..K-1), and among the rollouts of the others."""
    parts = int(part.max()) + 1
    _, cell = np.unique(query, return_inverse=True)
    total, count = np.bincount(cell, right), np.bincount(cell)
    pairs, place = np.unique(part * len(count) + cell, return_inverse=True)
    own, cell = np.divmod(pairs, len(count))
    here_count = np.bincount(place)
    here = np.bincount(place, right) / here_count
    rest_count = count[cell] - here_count
    kept = rest_count > 0
    rest = np.where(kept, (total[cell] - here * here_count) / np.maximum(rest_count, 1), 0.0)
    everyone = total / count

    def of_others(power: int) -> FloatVector:
        changed = np.where(kept, rest**power, 0.0) - everyone[cell] ** power
        return np.asarray((everyone**power).sum() + np.bincount(own, changed, parts), np.float64)

    return (
        _moments(*(np.bincount(own, here**power, parts).astype(np.float64) for power in (0, 1, 2))),
        _moments(*(of_others(power) for power in (0, 1, 2))),
    )


def _moments(queries: FloatVector, first: FloatVector, second: FloatVector) -> _Shares:
    """Shares from sums over queries of their means to the power of 0, 1 and 2."""
    size = np.maximum(queries, 1.0)
    mean = first / size
    return _Shares(mean, np.sqrt(np.maximum(second / size - mean**2, 0.0) / size), queries)


def _differ(one: _Shares, other: _Shares, compared: int) -> BoolVector:
    """bool [K]; see `LEAST_QUERIES`, `LEAST_GAP` and `FALSE_ALARMS`.

    Args:
        compared: number of comparisons that the false alarms are shared out among.
    """
    gap = np.abs(one.mean - other.mean)
    enough = np.minimum(one.queries, other.queries) >= LEAST_QUERIES
    # The spread of a few queries says little: they have at least that of the others.
    share = np.clip(other.mean, 0.0, 1.0)  # rounding of sums can leave it just outside
    by_chance = np.sqrt(share * (1.0 - share) / np.maximum(one.queries, 1.0))
    error = np.hypot(np.maximum(one.error, by_chance), other.error)
    deviations = -float(ndtri(FALSE_ALARMS / 2 / max(compared, 1)))
    return np.asarray(enough & (gap >= LEAST_GAP) & (gap > deviations * error), np.bool_)


def _voters(snapshot: Snapshot) -> list[Voter]:
    """The policy of each rollout, [T], in the first dataset of its query."""
    datasets = first_datasets(snapshot)[query_of_thinkings(snapshot)].tolist()
    columns = (snapshot.thinkings[name].to_pylist() for name in ("policy", "step"))
    return [Voter(*one) for one in zip(datasets, *columns, strict=True)]
