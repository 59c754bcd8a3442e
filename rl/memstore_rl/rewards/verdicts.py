"""Buys verdicts on answers within a budget of verifier calls, and keeps them for the run.

Of the open pairs of a query and an answer, those of the largest worth are bought first. Pairs of equal worth are bought
in the order given, so the same calls in the same order buy the same verdicts. In a step that comes in several batches,
pairs of little worth are left out (`memstore_rl.rewards.worth_floor`). Rules:

- A pair is bought once, and charged once. If the verifier fails, the pair stays open and is asked again at no charge,
  `MAX_ATTEMPTS` times in all. If the verifier cannot tell, the pair is not asked again.
- Where a domain's answers have one right value, a right verdict settles the query. So of such a query one answer is
  asked at a time, unless no verdict is waited for.
- The calls that a run made before this process count towards the total. Known are those whose verdict is in the memory.
- A step waits for its verdicts for a limited time. If the verifier takes longer, nothing more is asked until it
  answers, and steps do not wait again. What it answers later counts from the next step on.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from memstore.errors import MemstoreError
from memstore.graph.verdicts import GROUND_TRUTH, RIGHT
from memstore_gnn.data.verdicts import ONE_RIGHT_VALUE, Verdicts
from memstore_gnn.data.verdicts import Verdict as Remembered
from memstore_rl.rewards.verifier_budget import CallCounter, VerifierBudget
from memstore_rl.rewards.verifier_queue import Question, VerifierQueue
from memstore_rl.rewards.worth_floor import WorthFloor
from memstore_rl.verifiers import Verifiers
from memstore_rl.verifiers.protocol import Verdict

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Calls for one pair whose verifier fails."""
SPENT = "the verifier calls are spent on other answers, or kept for answers of more worth"
_STUCK = "the verifier does not answer, so nothing more is asked"
_LATE = "the verifier has not answered yet"
_FAILED = "the verifier failed on this answer"


class Candidate(NamedTuple):
    """An open pair of a query and an answer."""

    worth: float
    """What the verdict is worth; the largest is bought first."""
    step: Hashable
    """The training step that is charged."""
    query: str
    """Id of the query."""
    question: Question
    """What to ask; its key is the id of the answer, which includes the query."""


class Known(NamedTuple):
    """Verdicts by what was bought."""

    verdicts: list[Remembered | None]
    """The verdict on each pair; None where there is none."""
    first: frozenset[str]
    """Ids of the answers whose verdict was bought and is not recorded yet."""


@dataclass
class VerdictCounts:
    """Counts of a scorer's life, but for `latest_calls`."""

    calls: int = 0
    """Verifier calls that were charged."""
    latest_calls: int = 0
    """Calls of the step that called last."""
    right: int = 0
    wrong: int = 0
    """Verdicts bought, by whether the answer is right."""
    failed: int = 0
    """Calls in which the verifier failed."""
    waiting: int = 0
    """Calls whose verdict has not arrived."""
    remembered: int = 0
    """Pairs of query and answer in scored batches that were decided without a call."""
    open: int = 0
    """Pairs in scored batches that stayed open."""


class VerdictBuyer:
    """Verdicts bought in a run; see the module's docstring. Thread-safe."""

    def __init__(self, budget: VerifierBudget, verifiers: Verifiers) -> None:
        """Create a buyer without any verdict.

        Args:
            budget: limits of the calls, and how long a step waits.
            verifiers: the verifiers by domain; the caller closes them.
        """
        self._budget = budget
        self._calls = CallCounter(budget)
        self._floor = WorthFloor(budget.calls)
        self._queue = VerifierQueue(verifiers, self._receive)
        self._buying = threading.Lock()
        """Held while a batch buys, so that two batches do not buy the same pair."""
        self._lock = threading.Lock()
        """Guards everything below."""
        self._answers: dict[str, Remembered] = {}
        self._settled: dict[str, Remembered] = {}
        self._verdicts = Verdicts(self._answers, self._settled)
        self._queries: dict[str, str] = {}
        """Query of every pair that was ever asked, by answer; these are charged."""
        self._attempts: Counter[str] = Counter()
        self._waiting: set[str] = set()
        self._closed: dict[str, str] = {}
        """Why a pair is not asked again."""
        self._used: set[str] = set()
        """Answers whose verdict is recorded."""
        self.read_earlier: Callable[[], Mapping[str, int]] = dict
        """Returns the verdicts that each run has bought before, by its name; called once."""
        self._earlier: dict[str, int] | None = None
        self._stuck = False
        self._counts = VerdictCounts()

    @property
    def counts(self) -> VerdictCounts:
        """The counts, as of now."""
        with self._lock:
            calls, latest = self._calls.total, self._calls.latest
            return replace(self._counts, calls=calls, latest_calls=latest, waiting=len(self._waiting))

    def on(self, pairs: Sequence[tuple[str, str | None]]) -> list[Remembered | None]:
        """The verdict on each pair of a query and an answer (ids) by what was bought; None where there is none."""
        with self._lock:
            return [self._verdicts.on(query, answer) for query, answer in pairs]

    def begin(self, runs: Iterable[str | None]) -> None:
        """Count what these runs have bought before, if there is a limit in all and they are new."""
        if self._budget.total is None:
            return
        with self._lock:
            if self._earlier is None:
                self._earlier = dict(self.read_earlier())
            for run in runs:
                before = self._earlier.pop(run, 0) if run is not None else 0
                if before:
                    self._calls.earlier += before
                    logger.info(
                        "the run %s has bought %d verdicts before, which count towards verifier_total", run, before
                    )

    def use(self, pairs: Sequence[tuple[str, str | None]]) -> Known:
        """The verdicts on pairs that are about to be rewarded.

        All are as of one time: a verdict that arrives meanwhile counts for all rollouts with its answer, or for none.
        """
        with self._lock:
            asked = {answer for _, answer in pairs if answer is not None}
            first = frozenset(answer for answer in asked if answer in self._answers and answer not in self._used)
            return Known([self._verdicts.on(query, answer) for query, answer in pairs], first)

    def mark_recorded(self, answers: Iterable[str]) -> None:
        """Tell that rewards with the verdicts on these answers (ids) are recorded: later ones are remembered."""
        with self._lock:
            self._used.update(answers)

    def why_open(self, answer: str) -> str:
        """Why there is no verdict on an answer (id)."""
        with self._lock:
            if answer in self._waiting:
                return _LATE
            waits = _STUCK if self._stuck else SPENT
            return self._closed.get(answer) or (_FAILED if self._attempts[answer] else waits)

    def note(self, *, remembered: int, open_: int) -> None:
        """Count pairs of a scored batch that needed no call, and those that stayed open."""
        with self._lock:
            self._counts.remembered += remembered
            self._counts.open += open_

    def buy(self, candidates: Sequence[Candidate]) -> frozenset[str]:
        """Buy verdicts on the candidates that are worth most; return the ids of the answers that were charged.

        Args:
            candidates: each answer once.

        Raises:
            VerifierError: a verifier has ended the thread that calls it.
        """
        self._queue.check()
        asked: set[str] = set()
        charged: set[str] = set()
        with self._buying:
            ordered = sorted(self._above_floor(candidates), key=lambda one: -one.worth)
            deadline = time.monotonic() + self._budget.wait_s
            while chosen := self._choose(ordered, asked):
                asked.update(one.question.key for one in chosen)
                charged.update(self._ask(chosen))
                if self._budget.wait_s and not self._queue.wait(deadline - time.monotonic()):
                    self._note_stuck()
        return frozenset(charged)

    def close(self) -> None:
        """Ask nothing more."""
        self._queue.close()

    def _above_floor(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates that are worth a call, and those that are asked again at no charge."""
        with self._lock:
            new: dict[Hashable, list[float]] = {}
            for one in candidates:
                if one.question.key not in self._queries and self._is_open(one):
                    new.setdefault(one.step, []).append(one.worth)
            floor = {step: self._floor.begin(step, worths) for step, worths in new.items()}
            return [
                one for one in candidates if one.worth >= floor.get(one.step, 0.0) or one.question.key in self._queries
            ]

    def _choose(self, ordered: Sequence[Candidate], asked: set[str]) -> list[Candidate]:
        """The next candidates to ask together."""
        chosen: list[Candidate] = []
        planned: Counter[Hashable] = Counter()
        queries: set[str] = set()
        room = self._queue.room
        with self._lock:
            if self._stuck:
                return []
            for one in ordered:
                if one.question.key in asked or not self._is_open(one):
                    continue
                one_right_value = one.question.domain in ONE_RIGHT_VALUE
                if len(chosen) == room or (one_right_value and one.query in queries and self._budget.wait_s):
                    break
                if one.question.key not in self._queries:
                    if not self._affordable(one.step, planned):
                        continue
                    planned[one.step] += 1
                chosen.append(one)
                queries.add(one.query)
        return chosen

    def _affordable(self, step: Hashable, planned: Counter[Hashable]) -> bool:
        """Whether a step may make another call, besides those that are planned."""
        total = self._budget.total
        within = total is None or self._calls.earlier + self._calls.total + planned.total() < total
        return within and self._calls.left(step) > planned[step]

    def _is_open(self, one: Candidate) -> bool:
        key = one.question.key
        return key not in self._waiting and key not in self._closed and self._verdicts.on(one.query, key) is None

    def _ask(self, chosen: Sequence[Candidate]) -> list[str]:
        """Ask candidates and return the answers that are charged."""
        with self._lock:
            first = [one for one in chosen if one.question.key not in self._queries]
            again = [one.question for one in chosen if one.question.key in self._queries]
            for one in first:
                self._queries[one.question.key] = one.query
                self._calls.count(one.step)
            self._waiting.update(one.question.key for one in chosen)
        self._queue.add([one.question for one in first])
        self._queue.add(again, alone=True)
        return [one.question.key for one in first]

    def _note_stuck(self) -> None:
        """Stop asking until the verifier answers."""
        with self._lock:
            if not self._waiting:
                return
            self._stuck, count = True, len(self._waiting)
        logger.warning(
            "the verifier has not answered within %g s; the training goes on without %d verdicts, which count once "
            "they arrive, and nothing more is asked until then",
            self._budget.wait_s,
            count,
        )

    def _receive(self, question: Question, answer: Verdict | Exception) -> None:
        """Take an answer of the verifier; runs in the queue's thread."""
        key = question.key
        with self._lock:
            self._stuck = False
            self._waiting.discard(key)
            if isinstance(answer, Exception):
                self._fail(question, answer)
            elif answer.reward is None:
                self._closed[key] = answer.reason or "the verifier cannot judge this answer"
            else:
                verdict = Remembered(answer.reward, GROUND_TRUTH, dt.datetime.now(dt.UTC).isoformat())
                self._answers[key] = verdict
                self._counts.right += verdict.value > RIGHT
                self._counts.wrong += verdict.value <= RIGHT
                if verdict.value > RIGHT and question.domain in ONE_RIGHT_VALUE:
                    self._settled.setdefault(self._queries[key], verdict)

    def _fail(self, question: Question, error: Exception) -> None:
        """Keep a pair open whose verifier failed, or close it after `MAX_ATTEMPTS`."""
        self._attempts[question.key] += 1
        self._counts.failed += 1
        if self._attempts[question.key] == MAX_ATTEMPTS:
            self._closed[question.key] = f"the verifier failed {MAX_ATTEMPTS} times on this answer"
        if self._counts.failed in (1, 10, 100) or self._counts.failed % 1000 == 0:
            logger.warning(
                "a verifier of domain %s failed (%s), so the answer has no verdict and is asked again in a later step "
                "at no charge; %d failures so far",
                question.domain,
                error,
                self._counts.failed,
                exc_info=None if isinstance(error, MemstoreError) else error,
            )
