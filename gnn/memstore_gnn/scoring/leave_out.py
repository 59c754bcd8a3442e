r"""What all votes but a group's own stored ones say on a query, for every group of a query in one pass.

The evidence for an answer is a sum over the policies at their steps, :math:`\sum_c e_c n_{ca} / \sqrt{n_c}`, with
:math:`n_{ca}` votes of policy c for answer a, :math:`n_c` of its votes, and the evidence :math:`e_c` of one. It is
computed once for the stored votes of a query. A group changes the terms of its own policy only: its stored votes go,
and its new ones come as votes of their own. So a group costs what it holds, not what the memory holds of its query.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.separate import ranges
from memstore_gnn.features.dawid_skene import NOBODY, posterior_of
from memstore_gnn.scoring.query_votes import QueryVotes


@dataclass(frozen=True)
class LeaveOut:
    """Votes on queries, seen by each of G groups; see the module's docstring.

    Attributes:
        evidence: float64 [C], evidence of one vote of each cell (a policy at a step, on a query).
    """

    votes: QueryVotes
    evidence: FloatVector

    @cached_property
    def others(self) -> IntVector:
        """Stored votes that are not the group's own, int64 [G]."""
        of_query = np.bincount(self.votes.query[: self.votes.stored], minlength=self._queries)
        return of_query[self._query] - np.bincount(self.votes.own_group, minlength=len(self._query))

    def posterior(self) -> FloatVector:
        """Probability of each new rollout's answer by all votes, float64 [F]; NaN without an answer."""
        return self._of_new(np.where(self._count > 0, self._support, -np.inf))

    def posterior_by_group(self) -> FloatVector:
        """The same by the votes of the new rollouts' group alone."""
        support = self._by_answer(self._fresh_evidence)
        return self._of_new(np.where(self._by_answer(np.ones(len(self._fresh))) > 0, support, -np.inf))

    def relative_evidence(self) -> FloatVector:
        """Evidence of each new rollout's vote over the mean of the stored ones, at most 1; float64 [F].

        For groups with stored votes of others only.
        """
        cells, rest = self._touched % self._cells, self._rest
        before, after = np.sqrt(self._stored_of_cell), np.sqrt(rest)
        group, owner = self._touched // self._cells, self.votes.query[self.votes.first]
        totals = []
        for value in (np.ones(self._cells), self.evidence):
            whole = np.bincount(owner, before * value, self._queries)[self._query]
            change = (after - before[cells]) * value[cells]
            totals.append(whole + np.bincount(group, change, len(self._query)))
        mean = totals[1] / np.where(self.others > 0, totals[0], 1.0)
        return np.minimum(1.0, self.evidence[self._fresh] / np.where(mean > 0, mean, np.inf)[self.votes.group])

    @cached_property
    def share(self) -> FloatVector:
        """Weight of each stored vote for groups that leave out nothing of its cell, float64 [S]."""
        return _inverse_root(self._stored_of_cell)[self.votes.cell[: self.votes.stored]]

    @cached_property
    def fresh_share(self) -> FloatVector:
        """Weight of each new rollout's vote, float64 [F]: n rollouts of a policy in a group count as sqrt(n)."""
        return _inverse_root(self._new)[self._place]

    def share_for(self, group: IntVector, vote: IntVector) -> FloatVector:
        """Weight of stored votes for groups, float64 [N]; `group` and `vote` are int64 [N]."""
        key = group * self._cells + self.votes.cell[vote]
        place = np.minimum(np.searchsorted(self._touched, key), max(len(self._touched) - 1, 0))
        return np.where(self._touched[place] == key, _inverse_root(self._rest)[place], self.share[vote])

    @cached_property
    def complete(self) -> BoolVector:
        """Groups that see exactly the stored votes of their query: their own are stored, and no others of their cells;
        bool [G]."""
        pairs = len(self._by_pair)
        own = self._pair(self.votes.own_group, self.votes.answer[self.votes.own])
        new = self._pair(self.votes.group, self._new_answer)
        change = np.bincount(new, minlength=pairs + 1) - np.bincount(own, minlength=pairs + 1)
        moved = np.bincount(self._group_of_pair[change[:-1] != 0], minlength=len(self._query))
        kept = np.bincount(
            self._touched // self._cells, (self._rest > 0) | (self._new != self._taken), len(self._query)
        )
        return (moved == 0) & (kept == 0)

    # -- cells that a group touches: k = (group, cell) ------------------------------------------------------------

    @cached_property
    def _fresh(self) -> IntVector:
        return self.votes.cell[self.votes.stored :]

    @property
    def _new_answer(self) -> IntVector:
        return self.votes.answer[self.votes.stored :]

    @cached_property
    def _query(self) -> IntVector:
        return self.votes.query_of_group

    @property
    def _cells(self) -> int:
        return len(self.votes.first)

    @property
    def _queries(self) -> int:
        return int(self.votes.query.max(initial=-1)) + 1

    @cached_property
    def _stored_of_cell(self) -> IntVector:
        return np.bincount(self.votes.cell[: self.votes.stored], minlength=self._cells)

    @cached_property
    def _touched(self) -> IntVector:
        """Pairs of a group and a cell with votes of the group, as group * C + cell, ascending."""
        own = self.votes.own_group * self._cells + self.votes.cell[self.votes.own]
        return np.unique(np.concatenate((own, self.votes.group * self._cells + self._fresh)))

    @cached_property
    def _place(self) -> IntVector:
        """Position in `_touched` of each new rollout, int64 [F]."""
        return np.searchsorted(self._touched, self.votes.group * self._cells + self._fresh)

    @cached_property
    def _own_place(self) -> IntVector:
        own = self.votes.own_group * self._cells + self.votes.cell[self.votes.own]
        return np.searchsorted(self._touched, own)

    @cached_property
    def _new(self) -> IntVector:
        """New rollouts of each touched cell."""
        return np.bincount(self._place, minlength=len(self._touched))

    @cached_property
    def _taken(self) -> IntVector:
        """Stored votes of each touched cell that are the group's own."""
        return np.bincount(self._own_place, minlength=len(self._touched))

    @cached_property
    def _rest(self) -> IntVector:
        """Stored votes of each touched cell that are not the group's own."""
        return self._stored_of_cell[self._touched % self._cells] - self._taken

    @property
    def _fresh_evidence(self) -> FloatVector:
        return self.evidence[self._fresh] * self.fresh_share

    # -- pairs of a group and an answer to its query ---------------------------------------------------------------

    @cached_property
    def _answers(self) -> tuple[IntVector, IntVector, IntVector]:
        """Answers by query: their first query-ordered position, int64 [Q + 1], their order, and each one's place."""
        votes = self.votes
        given = votes.answer >= 0
        count = int(votes.answer.max(initial=-1)) + 1
        owner = np.zeros(count, np.int64)
        owner[votes.answer[given]] = votes.query[given]
        order = np.argsort(owner, kind="stable")
        start = np.searchsorted(owner[order], np.arange(self._queries + 1))
        place = np.zeros(count, np.int64)
        place[order] = np.arange(count) - start[owner[order]]
        return start, order, place

    @cached_property
    def _starts(self) -> IntVector:
        """First pair of each group, int64 [G + 1]."""
        start = self._answers[0]
        return np.append(0, np.cumsum((start[1:] - start[:-1])[self._query]))

    @cached_property
    def _group_of_pair(self) -> IntVector:
        return np.repeat(np.arange(len(self._query)), np.diff(self._starts))

    @cached_property
    def _by_pair(self) -> IntVector:
        """Answer of each pair."""
        group = self._group_of_pair
        return self._answers[1][self._answers[0][self._query[group]] + np.arange(len(group)) - self._starts[group]]

    def _pair(self, group: IntVector, answer: IntVector) -> IntVector:
        """Pair of each group and answer; one past the last without an answer."""
        place = self._answers[2] if len(self._answers[2]) else np.zeros(1, np.int64)
        return np.where(answer >= 0, self._starts[group] + place[answer], self._starts[-1])

    def _by_answer(self, value: FloatVector) -> FloatVector:
        """Sum over the new rollouts with each pair; `value` is float64 [F]."""
        pair = self._pair(self.votes.group, self._new_answer)
        return np.asarray(np.bincount(pair, value, len(self._by_pair) + 1)[:-1], np.float64)

    @cached_property
    def _count(self) -> FloatVector:
        """Votes of each pair."""
        stored = self.votes.answer[: self.votes.stored]
        before = np.bincount(stored[stored >= 0], minlength=len(self._answers[1]))[self._by_pair]
        own = self._pair(self.votes.own_group, self.votes.answer[self.votes.own])
        gone = np.bincount(own, minlength=len(before) + 1)[:-1]
        return np.asarray(before - gone + self._by_answer(np.ones(len(self._fresh))), np.float64)

    @cached_property
    def _support(self) -> FloatVector:
        """Evidence for each pair."""
        votes, stored = self.votes, self.votes.answer[: self.votes.stored]
        given, cell = stored >= 0, votes.cell[: votes.stored]
        before = np.bincount(stored[given], (self.evidence[cell] * self.share)[given], len(self._answers[1]))
        # The votes that are left in a cell count more once the group's own are gone.
        changed = np.flatnonzero(self._taken > 0)
        answers = max(len(self._answers[1]), 1)
        names, count = np.unique(cell[given] * answers + stored[given], return_counts=True)
        of, place = ranges(names // answers, self._touched[changed] % self._cells)
        at, one = changed[of], names[place] // answers
        after = _inverse_root(self._rest)
        pair = self._pair(self._touched[at] // self._cells, names[place] % answers)
        change = count[place] * self.evidence[one] * (after[at] - _inverse_root(self._stored_of_cell)[one])
        total = before[self._by_pair] + np.bincount(pair, change, len(self._by_pair) + 1)[:-1]
        own = self._pair(votes.own_group, votes.answer[votes.own])
        gone = self.evidence[votes.cell[votes.own]] * after[self._own_place]
        return total - np.bincount(own, gone, len(total) + 1)[:-1] + self._by_answer(self._fresh_evidence)

    def _of_new(self, support: FloatVector) -> FloatVector:
        """Posterior of each new rollout's answer, from the support of each pair."""
        unknown = np.full(len(support), np.nan)
        posterior = posterior_of(support, self._group_of_pair, len(self._query), unknown, NOBODY)
        return np.append(posterior, np.nan)[self._pair(self.votes.group, self._new_answer)]


def _inverse_root(count: IntVector) -> FloatVector:
    """1 / sqrt(n), float64; 0 for n = 0."""
    return np.where(count > 0, 1.0 / np.sqrt(np.maximum(count, 1)), 0.0)
