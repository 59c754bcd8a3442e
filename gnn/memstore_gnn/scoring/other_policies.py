r"""Evidence from stored rollouts of the same query: what other policies, runs and steps answered.

A model predicts a group from the group alone. Where the memory holds other rollouts of the query, their votes predict
rewards better than anything that a model reads in the group (`research/seen_queries_log.md`). The log odds of an answer
are then

.. math::
    (1 - k)\, \mathrm{logit}(v_{all}) + k\, \mathrm{logit}(s_{all}) + c
    + t \big( 1 - 1/n^2 \big) \big( \mathrm{logit}(p) - \mathrm{logit}(v_{group}) \big)

with :math:`p` the model's probability, :math:`v_{group}` the posterior of the answer by the votes of the group, and
:math:`v_{all}` that by the votes of the group and of the memory. Each vote is weighted by the reliability of its policy
(`memstore_gnn.features.dawid_skene`). Where reliabilities are estimated badly, the share :math:`s_{all}` of the votes
predicts better: :math:`k` is the trust in plain counts that held-out queries of the data set give. The correction
:math:`c` is that of a graph network over these votes (`memstore_gnn.models.network`), trusted in the same way. The
last term is what the model knows beyond the votes of the group of n rollouts: nothing in a group of one, where it has
nothing to compare. A model reads agreement in a group as evidence, whoever wrote it. So where the group's policy is
worse than the others, the term counts with :math:`t < 1`, the evidence of its vote divided by the mean evidence of
theirs. A rollout without an answer is wrong. Without stored rollouts, the probability is the model's.

Reliabilities are estimated once for a memory, for each policy at a step in each dataset, from agreement and from the
visible labels of other queries. They do not depend on the rollouts that are scored, so a group has the same
score alone and with others. Only domains whose answers have one right value are treated
(`memstore.graph.verdicts.ONE_RIGHT_VALUE`); in the others, votes of other policies change nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from memstore.snapshots.aliases import first_datasets
from memstore.snapshots.snapshot import Snapshot
from memstore.types import FloatVector, IntVector
from memstore_gnn.data.groups import answer_of_thinkings, query_of_thinkings
from memstore_gnn.data.verdicts import Verdicts
from memstore_gnn.features.dawid_skene import Reliabilities, fit_reliabilities
from memstore_gnn.models.calibration import EDGE, log_odds, sigmoid
from memstore_gnn.models.network import NO_CORRECTION, Correction
from memstore_gnn.models.vote_graph import Voters
from memstore_gnn.scoring.ballots import Voter, ballots_by_dataset, one_right_value, verdict_of_answers
from memstore_gnn.scoring.corrections import corrections
from memstore_gnn.scoring.leave_out import LeaveOut
from memstore_gnn.scoring.query_votes import QueryVotes, Rollouts, read_votes

FOLDS = 5
"""Folds of queries. The reliabilities that weigh the votes on a query are estimated without the verdicts of its fold,
so that a query's own labels do not reach its predictions."""


PolicyStep: TypeAlias = tuple[str | None, int | None]
"""A policy and its step."""
_Key: TypeAlias = tuple[tuple[str, int], str | None, int | None]
"""A dataset and a fold, a policy and its step."""


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

    def adjust(
        self,
        probability: FloatVector,
        new: Snapshot,
        correction: Correction = NO_CORRECTION,
        group: IntVector | None = None,
    ) -> FloatVector:
        """Combine the probabilities of new rollouts with the votes of stored ones.

        Args:
            probability: float64 [T], the model's, of the rollouts of `new`.
            correction: the model's, of what votes say.
            group: int64 [T], group of each rollout; None: one group a query.
        """
        fresh, votes = self._votes(new, group)
        if votes is None:
            return probability
        voter, voters = self._voters(votes, new.queries["id"].to_pylist())
        seen = LeaveOut(votes, voters.evidence[voter])
        kept = seen.others[votes.group] > 0
        of_all, of_group = log_odds(seen.posterior()), log_odds(seen.posterior_by_group())
        if correction.counts:
            ids = new.queries["id"].to_pylist()
            trust = {row: correction.counts.get(self.dataset[ids[row]], 0.0) for row in set(votes.query.tolist())}
            counts = np.array([trust[row] for row in votes.query[votes.stored :].tolist()])
            of_all += counts * (seen.plain_log_odds() - of_all)
        if correction.networks:
            of_all += corrections(correction, seen, voter, voters)
        size = np.bincount(votes.group)[votes.group]
        beyond = (1.0 - 1.0 / size**2) * (log_odds(probability[fresh]) - of_group) * seen.relative_evidence()
        answered = votes.answer[votes.stored :] >= 0
        found = np.where(answered, sigmoid(of_all + beyond), np.minimum(probability[fresh], EDGE))
        combined = probability.copy()
        combined[fresh[kept]] = found[kept]
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

    def _votes(self, new: Snapshot, group: IntVector | None) -> tuple[IntVector, QueryVotes | None]:
        """Rows of the new rollouts whose queries have stored votes, and the votes on these queries."""
        query_of, ids = query_of_thinkings(new), new.queries["id"].to_pylist()
        known = [row for row, query in enumerate(ids) if len(self.rows.get(query, ()))]
        fresh = np.flatnonzero(np.isin(query_of, known))
        if not len(fresh):
            return fresh, None
        rows = [self.rows[ids[row]] for row in known]
        query = np.repeat(np.array(known, np.int64), [len(own) for own in rows])
        every = np.concatenate(rows)
        stored = Rollouts(self.snapshot, every, query, self.answer[every])
        _, of = np.unique((query_of if group is None else group)[fresh], return_inverse=True)
        return fresh, read_votes(stored, Rollouts.of_queries(new, fresh, query_of[fresh]), of)

    def _voters(self, votes: QueryVotes, queries: Sequence[str]) -> tuple[IntVector, Voters]:
        """The voter of each cell, int64 [C], and all voters; a policy's reliability depends on the query's fold.

        Args:
            queries: ids of the queries that `votes` numbers.
        """
        part = {row: (self.dataset[queries[row]], _fold(queries[row])) for row in set(votes.query.tolist())}
        parts = [part[row] for row in votes.query[votes.first].tolist()]
        keys = list(zip(parts, votes.policy, votes.step, strict=True))
        of_part: dict[tuple[str, int], list[_Key]] = {}
        for key in dict.fromkeys(keys):
            of_part.setdefault(key[0], []).append(key)
        voters = Voters.concat(
            [
                Voters.of(
                    self.reliability[dataset][fold],
                    np.array([self.voters.get(Voter(dataset, *one[1:]), -1) for one in own]),
                )
                for (dataset, fold), own in of_part.items()
            ]
        )
        place = {key: position for position, key in enumerate(key for own in of_part.values() for key in own)}
        return np.array([place[key] for key in keys], np.int64), voters


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


def _fold(query: str) -> int:
    """The fold of a query, by its id alone."""
    return zlib.crc32(query.encode()) % FOLDS
