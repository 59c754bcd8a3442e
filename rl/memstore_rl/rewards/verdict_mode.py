"""Mode `verdict`: rewards from verdicts on answers, bought within a budget of verifier calls, and remembered.

A batch is scored as follows (docs/rewards.md):

1. Verdicts of the memory, and those bought earlier in this run, are free. A response without an answer is wrong.
2. Among the open pairs of a query and an answer, the scorer buys those of the largest share x p (1 - p), with the share
   of the query's rollouts in the batch that give the answer, and p by the reward model. Without a reward model, p is
   the answer's share of its group, shrunk: (votes + 1) / (rollouts + 2). A pair that occurs twice is bought once.
3. In the domains `math` and `qa`, a right answer settles the query: the others are wrong.
4. The undecided rollouts of a group share the mean of their p. Shaping does not apply.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from memstore.errors import InputError
from memstore_gnn.data.verdicts import Verdict as Remembered
from memstore_rl.rewards.known import KnownQueries
from memstore_rl.rewards.reward import Pair, Reward
from memstore_rl.rewards.shaping import DECIMALS, Predicted
from memstore_rl.rewards.tasks import VerifiedGroup, quoted_query
from memstore_rl.rewards.verdicts import Candidate, VerdictBuyer
from memstore_rl.rewards.verifier_queue import Question
from memstore_rl.verifiers.protocol import Attempt, quoted

GROUPS_WITHOUT_GOLD = 32
"""Groups without any gold answer after which the mode stops: it would never buy a verdict."""
_NO_ANSWER = "a response without an answer is wrong, and needs no verifier call"
_NO_GOLD = "the query has no gold answer"
_BY_MODEL = "by the reward model"
_BY_SHARES = "the shrunk shares of their answers, because there is no reward model"


class _Chances(NamedTuple):
    """Probabilities of a group's rollouts, one entry a rollout."""

    probability: list[float]
    by_votes: list[float] | None
    model: str | None
    """Id of the reward model that predicted them; None if none did."""


class _Batch(NamedTuple):
    """What happened to the groups that are scored together."""

    charged: frozenset[str]
    """Ids of the answers that the verifiers were asked about, and charged for."""
    first: frozenset[str]
    """Ids of the answers whose bought verdict is not recorded yet."""
    seconds: float
    """Duration of the scoring."""
    seen: set[str]
    """Ids of the answers that were counted."""


class VerdictMode:
    """Scores groups of mode `verdict`; see the module's docstring. Thread-safe."""

    def __init__(self, buyer: VerdictBuyer) -> None:
        """Create the mode.

        Args:
            buyer: buys and keeps verdicts.
        """
        self.buyer = buyer
        self._without_gold: int | None = 0
        """Groups so far, none of which has a gold answer; None if one had."""
        self._golds: dict[str, str] = {}
        """The gold answer of each query so far, by its id."""
        self._lock = threading.Lock()

    def read(self, groups: Sequence[VerifiedGroup], known: KnownQueries) -> list[VerifiedGroup]:
        """Return the groups, those of this mode with the ids of their answers.

        Raises:
            InputError: none of many groups has a gold answer, so there is nothing to buy; or a query comes with another
                gold answer than before, which its verdicts are by.
        """
        own = [group for group in groups if group.task.mode == "verdict"]
        with self._lock:
            self._check_golds(own)
            self._check_same_golds(own)
        return [
            replace(group, given=list(map(known.given, group.task.records))) if group.task.mode == "verdict" else group
            for group in groups
        ]

    def _check_golds(self, groups: Sequence[VerifiedGroup]) -> None:
        if any(group.task.group.query.labelled for group in groups):
            self._without_gold = None
        elif groups and self._without_gold is not None:
            self._without_gold += len(groups)
            if self._without_gold >= GROUPS_WITHOUT_GOLD:
                raise InputError(
                    f"none of the {self._without_gold} groups so far has a gold answer, so mode verdict cannot buy a "
                    "verdict; send gold answers, or use mode memory"
                )

    def _check_same_golds(self, groups: Sequence[VerifiedGroup]) -> None:
        new: dict[str, str] = {}
        for group in groups:
            query, key = group.task.group.query, group.task.records[0].query_id
            if query.gold is None or not query.labelled:
                continue
            gold = query.gold.strip()
            before = self._golds.get(key) or new.setdefault(key, gold)
            if gold != before:
                raise InputError(
                    f"the query {quoted_query(query)} has the gold answer {quoted(gold)} here and {quoted(before)} "
                    "before; mode verdict keeps one verdict for each answer of a query, so send one gold answer"
                )
        self._golds.update(new)

    def rewards(
        self, groups: Sequence[VerifiedGroup], predicted: Sequence[Predicted | None], started: float
    ) -> list[list[Reward]]:
        """Buy verdicts and return the rewards of each group's rollouts, in order.

        Args:
            groups: groups of this mode, scored together.
            predicted: the prediction for each group; None if there is no reward model or nothing is open.
            started: when the scoring began, by time.perf_counter().
        """
        self.buyer.begin({group.task.records[0].record.run for group in groups})
        chances = [_chances(group, one) for group, one in zip(groups, predicted, strict=True)]
        pairs = [(one.query, one.answer) for group in groups for one in group.given]
        open_ = self._candidates(groups, chances, _with_memory(groups, self.buyer.on(pairs)))
        charged = self.buyer.buy(list(open_))
        bought = self.buyer.use(pairs)
        batch = _Batch(charged, bought.first, time.perf_counter() - started, set())
        return [
            self._of_group(group, of_group, judged, batch)
            for group, of_group, judged in zip(groups, chances, _with_memory(groups, bought.verdicts), strict=True)
        ]

    def mark_recorded(self, groups: Sequence[VerifiedGroup], rewards: Sequence[Sequence[Reward]]) -> None:
        """Tell that these rewards are recorded: the verdicts that were bought for them are remembered from now on."""
        self.buyer.mark_recorded(
            one.answer
            for group, of_group in zip(groups, rewards, strict=True)
            for one, reward in zip(group.given, of_group, strict=False)
            if reward.source == "ground_truth" and one.answer is not None
        )

    def _candidates(
        self,
        groups: Sequence[VerifiedGroup],
        chances: Sequence[_Chances],
        verdicts: Sequence[list[Remembered | None]],
    ) -> Iterator[Candidate]:
        """The open pairs that a verifier can be asked about, in order of their first rollouts."""
        sizes: Counter[str] = Counter()
        votes: dict[str, list[float]] = defaultdict(list)
        first: dict[str, tuple[VerifiedGroup, int]] = {}
        for group, (probability, *_), judged in zip(groups, chances, verdicts, strict=True):
            sizes[group.given[0].query] += len(group.given)
            for index, one in enumerate(group.given):
                if one.answer is not None:
                    votes[one.answer].append(probability[index])
                    if group.task.group.query.labelled and judged[index] is None:
                        first.setdefault(one.answer, (group, index))
        for answer, (group, index) in first.items():
            given, gold = group.given[index], group.task.group.query.gold or ""
            share, p = len(votes[answer]) / sizes[given.query], float(np.mean(votes[answer]))
            attempt = Attempt(group.task.records[index].record.query, gold, given.written)
            question = Question(answer, group.task.domain, attempt)
            yield Candidate(share * p * (1 - p), group.step, given.query, question)

    def _of_group(
        self, group: VerifiedGroup, chances: _Chances, verdicts: Sequence[Remembered | None], batch: _Batch
    ) -> list[Reward]:
        task, latency = group.task, group.seconds + batch.seconds
        labelled = group.task.group.query.labelled and group.task.domain != "other"
        wrong = [labelled and one.answer is None for one in group.given]
        undecided = [not known and verdict is None for known, verdict in zip(wrong, verdicts, strict=True)]
        shared = _mean(chances.probability, undecided)
        rewards, pairs = [], Counter[Pair]()
        for index, (given, verdict) in enumerate(zip(group.given, verdicts, strict=True)):
            pair = _pair(given.answer, verdict, batch)
            if pair is not None:
                pairs[pair] += 1
            blank = Reward(None, "unscored", None, len(verdicts), task.short, None, task.known, latency, pair=pair)
            if wrong[index]:
                rewards.append(_judged(blank, Remembered(0.0, "ground_truth", None), True, _NO_ANSWER))
            elif verdict is not None:
                rewards.append(_judged(blank, verdict, given.answer in batch.first))
            else:
                rewards.append(self._open(blank, group, index, chances, shared, silent=all(undecided)))
        self.buyer.note(remembered=pairs["remembered"], open_=pairs["open"] + pairs["asked"])
        return rewards

    def _open(
        self, blank: Reward, group: VerifiedGroup, index: int, chances: _Chances, shared: float, *, silent: bool
    ) -> Reward:
        """The reward of an undecided rollout."""
        answer = group.given[index].answer
        labelled = group.task.group.query.labelled and answer is not None
        why = self.buyer.why_open(answer) if labelled and answer is not None else _NO_GOLD
        by_model = chances.by_votes is not None
        reason = (
            f"this answer has no verdict ({why}), and the undecided rollouts of the group share the mean of their "
            f"probabilities, {_BY_MODEL if by_model else _BY_SHARES}"
        )
        return replace(
            blank,
            value=shared,
            source="predicted",
            probability=chances.probability[index],
            model=chances.model,
            by_votes=None if chances.by_votes is None else chances.by_votes[index],
            reason=reason,
            silent=silent,
        )


def _with_memory(groups: Sequence[VerifiedGroup], bought: Sequence[Remembered | None]) -> list[list[Remembered | None]]:
    """The verdict on each rollout's answer, by group: the memory's, or else the one that was bought."""
    rest = iter(bought)
    return [[known or found for known, found in zip(group.remembered, rest, strict=False)] for group in groups]


def _pair(answer: str | None, verdict: Remembered | None, batch: _Batch) -> Pair | None:
    """What happened to a pair of query and answer, for its first rollout in the batch."""
    if answer is None or answer in batch.seen:
        return None
    batch.seen.add(answer)
    if answer in batch.charged:
        return "asked" if verdict is None else "bought"
    return "open" if verdict is None else "remembered"


def _judged(blank: Reward, verdict: Remembered, first: bool, reason: str | None = None) -> Reward:
    """The reward of a rollout with a verdict: ground truth if it was bought and is not recorded, else remembered."""
    return replace(
        blank,
        value=verdict.value,
        source="ground_truth" if first else "remembered",
        probability=None if first else verdict.value,
        reason=reason,
        judged_by=verdict.judged_by,
        judged_at=verdict.judged_at,
    )


def _chances(group: VerifiedGroup, predicted: Predicted | None) -> _Chances:
    """The probabilities of a group's rollouts, predicted or by the shrunk shares of their answers."""
    if predicted is not None:
        probability, by_votes = (np.round(one, DECIMALS) for one in (predicted.probability, predicted.by_votes))
        return _Chances(probability.tolist(), by_votes.tolist(), predicted.model)
    votes = Counter(one.answer for one in group.given)
    del votes[None]
    size = len(group.given)
    return _Chances([(votes[one.answer] + 1) / (size + 2) for one in group.given], None, None)


def _mean(values: Sequence[float], of: Sequence[bool]) -> float:
    """The mean of some values, rounded; 0 if there are none."""
    chosen = [value for value, one in zip(values, of, strict=True) if one]
    return round(float(np.mean(chosen)), DECIMALS) if chosen else 0.0
