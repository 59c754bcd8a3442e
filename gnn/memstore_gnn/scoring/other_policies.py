r"""Evidence from stored rollouts of the same query: what other policies, runs and steps answered.

A model predicts a group from the group alone. Where the memory holds other rollouts of the query, their votes predict
rewards better than anything that a model reads in the group (`research/seen_queries_log.md`). The log odds of an answer
are then

.. math::
    \mathrm{logit}(v_{all}) + c + t \big( 1 - 1/n^2 \big) \big( \mathrm{logit}(p) - \mathrm{logit}(v_{group}) \big)

with :math:`p` the model's probability, :math:`v_{group}` the posterior of the answer by the votes of the group, and
:math:`v_{all}` that by the votes of the group and of the memory. Each vote is weighted by the reliability of its policy
(`memstore_gnn.features.dawid_skene`). The correction :math:`c` is that of a graph network over these votes
(`memstore_gnn.models.network`), as far as held-out queries trust it. The last term is what the model knows beyond the
votes of the group of n rollouts: nothing in a group of one, where it has nothing to compare. A model reads agreement in
a group as evidence, whoever wrote it. So where the group's policy is worse than the others, the term counts with
:math:`t < 1`, the evidence of its vote divided by the mean evidence of theirs. A rollout without an answer is wrong.
Without stored rollouts, the probability is the model's.

Reliabilities are estimated once for a memory, for each policy at a step in each dataset, from agreement and from the
visible labels of other queries. They do not depend on the rollouts that are scored, so a group has the same
score alone and with others. Only domains whose answers have one right value are treated
(`memstore_gnn.data.verdicts.ONE_RIGHT_VALUE`); in the others, votes of other policies change nothing.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import answer_of_thinkings, query_of_thinkings
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.features.dawid_skene import Reliabilities, fit_reliabilities
from memstore_gnn.models.calibration import sigmoid
from memstore_gnn.models.network import NO_CORRECTION, Correction
from memstore_gnn.models.vote_graph import EDGE, Voters, Votes, log_odds, vote_graph
from memstore_gnn.scoring.ballots import Voter, ballots_by_dataset, one_right_value, verdict_of_answers

FOLDS = 5
"""Folds of queries. The reliabilities that weigh the votes on a query are estimated without the verdicts of its fold,
so that a query's own labels do not reach its predictions."""


PolicyStep: TypeAlias = tuple[str | None, int | None]
"""A policy and its step."""


@dataclass(frozen=True)
class StoredVotes:
    """The votes of a memory's rollouts; see the module's docstring.

    Attributes:
        snapshot: the memory.
        rows: by query id, the rollouts of the query (rows of `snapshot.thinkings`).
        dataset: by query id, the dataset of the query in the memory, whatever a new rollout calls it.
        answer: int64 [T], answer of each rollout (row of `snapshot.answers`), -1 without one.
        reliability: estimated reliabilities by dataset, one for each of the `FOLDS`.
        voters: position of each policy at a step in the reliabilities of its dataset.
    """

    snapshot: Snapshot
    rows: Mapping[str, IntVector]
    dataset: Mapping[str, str]
    answer: IntVector
    reliability: Mapping[str, tuple[Reliabilities, ...]]
    voters: Mapping[Voter, int]

    def adjust(self, probability: FloatVector, new: Snapshot, correction: Correction = NO_CORRECTION) -> FloatVector:
        """Combine the probabilities of new rollouts with the votes of stored ones.

        Args:
            probability: float64 [T], the model's, of the rollouts of `new`.
            new: at most one group of each query.
            correction: the model's, of what votes say.
        """
        ballots = self._ballots(new)
        if ballots is None:
            return probability
        votes, voters, fresh = ballots
        own = votes.take(np.arange(len(fresh)))
        # An entry more, at position -1, is for rollouts without an answer.
        corrected = correction.of(vote_graph(votes, voters)) if correction.networks else 0.0
        of_all = np.append(log_odds(votes.posterior(voters)) + corrected, 0.0)
        of_group = np.append(log_odds(own.posterior(voters)), 0.0)
        size, answered = np.bincount(own.query, minlength=votes.queries)[own.query], own.answer >= 0
        beyond = (1.0 - 1.0 / size**2) * (log_odds(probability[fresh]) - of_group[own.answer])
        beyond *= _trust(votes, voters.evidence[votes.voter], len(fresh))
        combined = probability.copy()
        combined[fresh] = np.where(answered, sigmoid(of_all[own.answer] + beyond), np.minimum(combined[fresh], EDGE))
        return combined

    def of_query(self, query: str) -> StoredVotes:
        """The votes on one query (id) alone."""
        return replace(self, rows={query: self.rows[query]} if query in self.rows else {})

    def without(self, rollouts: Collection[str]) -> StoredVotes:
        """The same without the votes of these rollouts (ids). Reliabilities stay as they were estimated."""
        gone, ids = pa.array(list(rollouts), pa.string()), self.snapshot.thinkings["id"]
        kept = {query: ~pc.is_in(ids.take(rows), value_set=gone).to_numpy() for query, rows in self.rows.items()}
        return replace(self, rows={query: rows[kept[query]] for query, rows in self.rows.items()})

    def at_mean(self, policies: Collection[PolicyStep]) -> StoredVotes:
        """The same with the votes of these policies counted as those of the mean policy."""
        known = {voter: row for voter, row in self.voters.items() if voter[1:] not in policies}
        return replace(self, voters=known)

    def reliability_of(self, query: str, policy: PolicyStep) -> float:
        """Estimated reliability of a policy of the memory, as it weighs the votes on a query (id) of the memory."""
        dataset = self.dataset[query]
        return float(self.reliability[dataset][_fold(query)].policy[self.voters[Voter(dataset, *policy)]])

    def _votes_on(self, queries: Collection[str]) -> dict[str, list[_Vote]]:
        """The stored votes on each of these queries that has some."""
        rows = {query: self.rows[query] for query in queries if query in self.rows}
        every = np.concatenate([np.zeros(0, np.int64), *rows.values()])
        votes = iter(_votes_of(self.snapshot, every, self.answer[every]))
        return {query: [next(votes) for _ in own] for query, own in rows.items()}

    def _ballots(self, new: Snapshot) -> tuple[Votes, Voters, IntVector] | None:
        """Votes of new rollouts, followed by those of stored ones of the same queries.

        Returns:
            The votes, their voters, and the rows of `new` whose votes come first; None without stored votes.
        """
        ids, query_of = new.queries["id"].to_pylist(), query_of_thinkings(new)
        if not any(query in self.rows for query in ids):
            return None
        given = _votes_of(new, np.arange(len(query_of)), answer_of_thinkings(new))
        stored, order = self._votes_on(ids), np.argsort(query_of, kind="stable")
        fresh: list[int] = []
        first: list[_Ballot] = []
        others: list[_Ballot] = []
        for rows in np.split(order, np.flatnonzero(np.diff(query_of[order])) + 1):
            query, group = ids[int(query_of[rows[0]])], [given[row] for row in rows]
            found = _of_others(group, stored.get(query, []))
            if found:
                fresh += rows.tolist()
                first += [_Ballot(query, False, vote) for vote in group]
                others += [_Ballot(query, True, vote) for vote in found]
        if not others:
            return None
        cast = [*first, *others]
        voter, voters = self._voters(cast)
        return _as_votes(cast, voter), voters, np.array(fresh, np.int64)

    def _voters(self, cast: Sequence[_Ballot]) -> tuple[IntVector, Voters]:
        """The voter of each ballot, int64 [N], and all voters; a policy's reliability depends on the query's fold."""
        keys = [((self.dataset[one.query], _fold(one.query)), one.vote.policy, one.vote.step) for one in cast]
        parts: dict[tuple[str, int], list[tuple[tuple[str, int], str | None, int | None]]] = {}
        for key in dict.fromkeys(keys):
            parts.setdefault(key[0], []).append(key)
        voters = Voters.concat(
            [
                Voters.of(
                    self.reliability[dataset][fold],
                    np.array([self.voters.get(Voter(dataset, *one[1:]), -1) for one in own]),
                )
                for (dataset, fold), own in parts.items()
            ]
        )
        place = {key: position for position, key in enumerate(key for own in parts.values() for key in own)}
        return np.array([place[key] for key in keys], np.int64), voters


class _Ballot(NamedTuple):
    """A vote on a query (id), of a stored or of a new rollout."""

    query: str
    stored: bool
    vote: _Vote


class _Vote(NamedTuple):
    """A rollout as a vote: who sampled it, a hash of its text, and the id of its answer."""

    rollout: str
    policy: str | None
    step: int | None
    sample_index: int | None
    vector_key: str | None
    answer: str | None


def stored_votes(snapshot: Snapshot, verdicts: Verdicts) -> StoredVotes:
    """Read the votes of a memory and estimate the reliability of its policies.

    Args:
        verdicts: verdicts that may be seen (`memstore_gnn.data.verdicts.verdicts_of`).
    """
    answer, datasets = answer_of_thinkings(snapshot), first_datasets(snapshot).tolist()
    verdict = verdict_of_answers(snapshot, verdicts)
    fold = np.array([_fold(name) for name in snapshot.queries["id"].to_pylist()], np.int64)
    reliability, voters = {}, {}
    for part in ballots_by_dataset(snapshot):
        held_out, known = fold[part.queries][part.ballots.query], verdict[part.answers]
        fits = (np.where(held_out == one, np.nan, known) for one in range(FOLDS))
        reliability[part.dataset] = tuple(fit_reliabilities(part.ballots, seen, len(part.voters)) for seen in fits)
        voters.update({voter: position for position, voter in enumerate(part.voters)})
    counted = one_right_value(snapshot)
    query_of = query_of_thinkings(snapshot)
    order = counted[np.argsort(query_of[counted], kind="stable")]
    starts = np.flatnonzero(np.diff(query_of[order], prepend=-1))
    ids = snapshot.queries["id"].take(query_of[order][starts]).to_pylist()
    rows_of = dict(zip(ids, np.split(order, starts[1:]), strict=True)) if len(order) else {}
    named = dict(zip(snapshot.queries["id"].to_pylist(), datasets, strict=True))
    return StoredVotes(snapshot, rows_of, named, answer, reliability, voters)


def _trust(votes: Votes, evidence: FloatVector, fresh: int) -> FloatVector:
    """Evidence of each new rollout's vote over the mean of the stored ones, at most 1; float64 [fresh].

    Args:
        evidence: float64 [N], of each vote; the new rollouts' come first.
    """
    stored = votes.take(np.arange(fresh, len(evidence)))
    share = np.bincount(stored.query, stored.share, votes.queries)
    mean = np.bincount(stored.query, stored.share * evidence[fresh:], votes.queries) / share
    return np.minimum(1.0, evidence[:fresh] / mean[votes.query[:fresh]])


def _fold(query: str) -> int:
    """The fold of a query, by its id alone."""
    return zlib.crc32(query.encode()) % FOLDS


def _as_votes(cast: Sequence[_Ballot], voter: IntVector) -> Votes:
    """Number queries and answers; n stored, or n new, rollouts of one policy at a step count as sqrt(n)."""
    queries = {name: place for place, name in enumerate(dict.fromkeys(one.query for one in cast))}
    named = dict.fromkeys(one.vote.answer for one in cast if one.vote.answer is not None)
    answers = {name: place for place, name in enumerate(named)}
    query = np.array([queries[one.query] for one in cast], np.int64)
    answer = np.array([answers.get(one.vote.answer or "", -1) for one in cast], np.int64)
    groups = [(one.query, one.stored, one.vote.policy, one.vote.step) for one in cast]
    count = Counter(groups)
    share = np.array([1.0 / math.sqrt(count[group]) for group in groups], np.float64)
    query_of = np.zeros(len(answers), np.int64)
    query_of[answer[answer >= 0]] = query[answer >= 0]
    return Votes(voter, query, answer, share, query_of, len(queries))


def _votes_of(snapshot: Snapshot, rows: IntVector, answer: IntVector) -> list[_Vote]:
    """Votes of some rollouts of a snapshot; `answer` is int64 [N], their rows of its answers, -1 without one."""
    given = pa.array(answer, mask=answer < 0)
    columns = [snapshot.thinkings[name].take(rows) for name in ("id", *_Vote._fields[1:-1])]
    columns.append(snapshot.answers["id"].take(given))
    return [_Vote(*values) for values in zip(*(column.to_pylist() for column in columns), strict=True)]


def _of_others(group: Sequence[_Vote], stored: Sequence[_Vote]) -> list[_Vote]:
    """The stored votes without those of the group itself.

    The same rollout has another id if its run has another name, as that of a file can.
    """
    ids, copies = {vote.rollout for vote in group}, {vote[1:-1] for vote in group}
    return [vote for vote in stored if vote.rollout not in ids and vote[1:-1] not in copies]
