r"""What the votes on a query say for each of its groups: those of the group, and the stored ones that are not its own.

The evidence for an answer is a sum over the policies at their steps, :math:`\sum_c e_c n_{ca} / \sqrt{n_c}`, with
:math:`n_{ca}` votes of policy c for answer a, :math:`n_c` of its votes, new and stored, and the evidence :math:`e_c`
of one. It is computed once for the stored votes of a query. A group changes the terms of its own policy only: its own
stored votes go and its new ones come. So a group costs what it holds, not what the memory holds of its query.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from memstore.types import BoolVector, FloatVector, IntVector
from memstore_gnn.data.groups import share_logit
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

    def plain_log_odds(self) -> FloatVector:
        """Log odds of the answer's share of all votes, counted alike, float64 [F]; NaN without an answer."""
        votes = np.append(self._count, np.nan)[self._pair(self.votes.group, self._new_answer)]
        size = (self.others + np.bincount(self.votes.group))[self.votes.group]
        return share_logit(votes / size, size)

    def posterior_by_group(self) -> FloatVector:
        """The same by the votes of the new rollouts' group alone."""
        support = self._by_answer(self.evidence[self._fresh] * _inverse_root(self._new)[self._place])
        return self._of_new(np.where(self._by_answer(np.ones(len(self._fresh))) > 0, support, -np.inf))

    def relative_evidence(self) -> FloatVector:
        """Evidence of each new rollout's vote over the mean of the stored ones, at most 1; float64 [F].

        For groups with stored votes of others only.
        """
        cells = self._touched % self._cells
        before, after = np.sqrt(self._before), np.sqrt(self._before[cells] - self._taken)
        group, owner = self._touched // self._cells, self.votes.query[self.votes.first]
        totals = []
        for value in (np.ones(self._cells), self.evidence):
            whole = np.bincount(owner, before * value, self._queries)[self._query]
            change = (after - before[cells]) * value[cells]
            totals.append(whole + np.bincount(group, change, len(self._query)))
        mean = totals[1] / np.where(self.others > 0, totals[0], 1.0)
        return np.minimum(1.0, self.evidence[self._fresh] / np.where(mean > 0, mean, np.inf)[self.votes.group])

    def share(self, group: IntVector, vote: IntVector) -> FloatVector:
        """Weight of votes for groups, float64 [N]: n rollouts of a policy at a step count as sqrt(n).

        Args:
            group, vote: int64 [N].
        """
        cell = self.votes.cell[vote]
        key = group * self._cells + cell
        place = np.minimum(np.searchsorted(self._touched, key), len(self._touched) - 1)
        return _inverse_root(np.where(self._touched[place] == key, self._after[place], self._before[cell]))

    @cached_property
    def complete(self) -> BoolVector:
        """Groups that see exactly the stored votes of their query, because they are stored; bool [G]."""
        moved = np.flatnonzero(self._change)
        cells = np.bincount(self._touched // self._cells, self._new != self._taken, len(self._query))
        return (np.bincount(self._group_of_pair[moved], minlength=len(self._query)) == 0) & (cells == 0)

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
    def _before(self) -> IntVector:
        """Stored votes of each cell, int64 [C]."""
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
    def _after(self) -> IntVector:
        """Votes of each touched cell that the group sees: its new ones, and the stored ones that are not its own."""
        return self._before[self._touched % self._cells] - self._taken + self._new

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
    def _change(self) -> FloatVector:
        """New votes of each pair, less the group's own stored ones."""
        own = self._pair(self.votes.own_group, self.votes.answer[self.votes.own])
        return self._by_answer(np.ones(len(self._fresh))) - np.bincount(own, minlength=len(self._by_pair) + 1)[:-1]

    @cached_property
    def _count(self) -> FloatVector:
        """Votes of each pair."""
        stored = self.votes.answer[: self.votes.stored]
        return np.bincount(stored[stored >= 0], minlength=len(self._answers[1]))[self._by_pair] + self._change

    @cached_property
    def _support(self) -> FloatVector:
        """Evidence for each pair."""
        votes, stored = self.votes, self.votes.answer[: self.votes.stored]
        given, cell = stored >= 0, votes.cell[: votes.stored]
        answers, width = max(len(self._answers[1]), 1), len(self._by_pair) + 1
        before = _inverse_root(self._before)
        whole = np.bincount(stored[given], (self.evidence * before)[cell[given]], answers)[self._by_pair]
        # The weight of a vote changes with the number of its cell's votes.
        names, count = np.unique(cell[given] * answers + stored[given], return_counts=True)
        changed = np.flatnonzero(self._new != self._taken)
        of, place = ranges(names // answers, self._touched[changed] % self._cells)
        at, one, after = changed[of], names[place] // answers, _inverse_root(self._after)
        pair = self._pair(self._touched[at] // self._cells, names[place] % answers)
        weight = np.bincount(pair, count[place] * self.evidence[one] * (after[at] - before[one]), width)
        own = self._pair(votes.own_group, votes.answer[votes.own])
        gone = np.bincount(own, self.evidence[votes.cell[votes.own]] * after[self._own_place], width)
        new = self._by_answer(self.evidence[self._fresh] * after[self._place])
        return whole + (weight - gone)[:-1] + new

    def _of_new(self, support: FloatVector) -> FloatVector:
        """Posterior of each new rollout's answer, from the support of each pair."""
        unknown = np.full(len(support), np.nan)
        posterior = posterior_of(support, self._group_of_pair, len(self._query), unknown, NOBODY)
        return np.append(posterior, np.nan)[self._pair(self.votes.group, self._new_answer)]


def _inverse_root(count: IntVector) -> FloatVector:
    """1 / sqrt(n), float64; 0 for n = 0."""
    return np.where(count > 0, 1.0 / np.sqrt(np.maximum(count, 1)), 0.0)
