r"""Verifies mathematical answers: `\frac{1}{2}` equals 0.5, and `3\sqrt{2}` does not equal 3.

Verification has two steps. First, canonical values are compared: equal values are equal, different integers are
different, and words are compared as words (a formula parser would read "listen" as a product of six variables). What
remains (formulas, decimals, sets, intervals, matrices) goes to math-verify, in a worker process with a memory limit
and a time limit. math-verify rounds decimals to six places.

An answer that cannot be parsed is wrong. So is an answer whose comparison does not finish within its limits, if the
gold answer alone can be parsed and compared: an answer must not escape its verdict by being expensive. A gold answer
that cannot be parsed and compared gives no verdict.

The comparisons of a group (one query, one gold answer) share a budget of CPU time. Each gets a short limit first, so
that expensive answers take nothing from the others and delay other groups little, and what is left goes to those that
need more. Outcomes are kept by digest: copies of an answer are compared once.

A comparison whose worker process was lost twice has not finished either. If workers are lost with every comparison,
that is an error.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

from memstore.runtime.fair_queue import CpuAccount
from memstore.runtime.processes import WorkerError, WorkerPool
from memstore.text import canonical_answer
from memstore.text.extract import marked_answer
from memstore.text.latex import formula
from memstore_rl.verifiers.outcomes import OutcomeCache, digest
from memstore_rl.verifiers.protocol import Attempt, Verdict, quoted

CPU_SECONDS = 3.0
"""CPU time limit of one comparison."""
GROUP_CPU_SECONDS = 12.0
"""CPU time limit of all comparisons of a group."""
SHORT_CPU_SECONDS = (0.1, 0.5)
"""First CPU time limits of a comparison, one after the other. Ordinary ones take a hundredth of a second."""
EXTRA_WALL_SECONDS = 60.0
"""Wall-clock seconds on top of the CPU limit before the worker is killed, for machines busy with other work."""
MAX_FORMULA_CHARS = 1_000
"""A longer formula is equal only if its canonical value is."""

_COMMAND = ("/usr/bin/env", "PYTHONHASHSEED=0", sys.executable, "-m", "memstore_rl.verifiers.math_worker")
_ATTEMPTS = 2
"""A comparison is repeated once if its worker was lost."""
_OUT_OF_TIME = frozenset(["t", "b"])
"""Letters of a comparison that ran out of its limit, or out of its group's budget."""
_UNFINISHED = _OUT_OF_TIME | {"l"}
"""Letters of a comparison without a result."""
_PLAIN = "\\frac{1}{2}"
"""A formula that every working process compares."""

_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+|/\d+)?")
_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}(?![A-Za-z(^_])")
_BASE = re.compile(r"[0-9A-Z]_(?:([0-9]+)|\{([0-9]+)\})")
DECIMALS = 6
"""Decimal places to which two numbers must agree, as math-verify rounds."""
RELATIVE_TOLERANCE = Fraction(1, 10_000)
"""Largest difference of two equal numbers, relative to the larger one: six decimals do not tell small numbers apart."""
_TWO_NUMBERS = re.compile(r"\d\s+\d")


@dataclass(frozen=True)
class _Side:
    """One side of a comparison: the gold answer or the attempt."""

    value: str
    """Canonical value; "" if there is none."""
    formula: str
    """Input for math-verify; "" if the text is not to be parsed as a formula."""


@dataclass(frozen=True, eq=False)
class _Group:
    """The attempts at one query with one gold answer."""

    gold: str
    attempts: list[Attempt]
    account: CpuAccount = field(default_factory=CpuAccount)

    def key(self, attempt: Attempt) -> bytes:
        """Digest of an attempt with its group, for outcomes that depend on the group's budget."""
        return digest(self.gold, attempt.answer, *(other.answer for other in self.attempts))


class MathVerifier:
    """Verifies answers of domain `math`. Thread-safe."""

    def __init__(
        self,
        *,
        seconds: float = CPU_SECONDS,
        group_seconds: float = GROUP_CPU_SECONDS,
        processes: int | None = None,
    ) -> None:
        """Create the verifier; its worker processes start with the first comparison that needs one.

        Args:
            seconds: CPU time limit of one comparison.
            group_seconds: CPU time limit of all comparisons of one query with one gold answer.
            processes: number of worker processes; None: one per CPU, at most four.
        """
        self._seconds = seconds
        self._group_seconds = group_seconds
        self._workers = WorkerPool(_COMMAND, processes or min(4, os.cpu_count() or 1))
        self._outcomes = OutcomeCache[Verdict]()
        self._readable = OutcomeCache[bool]()

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Return a verdict for each attempt, in order.

        Raises:
            WorkerError: math-verify does not start, or its processes end before they answer.
        """
        verdicts = {attempt: self._decided(attempt) for attempt in dict.fromkeys(attempts)}
        if any(verdict is None for verdict in verdicts.values()):
            groups: dict[tuple[str, str], list[Attempt]] = {}
            for attempt in verdicts:
                groups.setdefault((attempt.query, attempt.gold), []).append(attempt)
            self._compare_groups([_Group(gold, attempts) for (_, gold), attempts in groups.items()], verdicts)
        return [verdict for attempt in attempts if (verdict := verdicts[attempt]) is not None]

    def _decided(self, attempt: Attempt) -> Verdict | None:
        """Return the verdict of an attempt that needs no comparison of formulas, else None."""
        key = digest(attempt.gold, attempt.answer)
        return self._outcomes.get(key) or _compare_values(attempt.gold, attempt.answer)

    def _compare_groups(self, groups: Sequence[_Group], verdicts: dict[Attempt, Verdict | None]) -> None:
        """Compare formulas within the budget of each group, first all with short limits."""
        pending = [(group, attempt) for group in groups for attempt in group.attempts if verdicts[attempt] is None]
        verdicts.update({attempt: self._outcomes.get(group.key(attempt)) for group, attempt in pending})
        jobs = [job for job in pending if verdicts[job[1]] is None]
        lost: list[tuple[_Group, Attempt]] = []
        with ThreadPoolExecutor(len(self._workers.workers), thread_name_prefix="compare") as threads:
            for limit in (*SHORT_CPU_SECONDS, self._seconds):
                letters = list(threads.map(partial(self._compare, limit=limit), jobs))
                lost += [job for job, letter in zip(jobs, letters, strict=True) if letter == "l"]
                for job, letter in zip(jobs, letters, strict=True):
                    if letter not in _UNFINISHED:
                        verdicts[job[1]] = self._verdict(job[1], letter)
                jobs = [job for job, letter in zip(jobs, letters, strict=True) if letter in _OUT_OF_TIME]
            for job, verdict in zip(jobs, threads.map(self._out_of_time, jobs), strict=True):
                verdicts[job[1]] = verdict
            for job, verdict in zip(lost, threads.map(self._lost, lost), strict=True):
                verdicts[job[1]] = verdict

    def _compare(self, job: tuple[_Group, Attempt], limit: float) -> str:
        """Compare within a limit and the rest of the group's budget.

        Returns:
            The worker's letter, "b" if the budget is spent, or "l" if the worker was lost.
        """
        group, attempt = job
        seconds = min(limit, self._seconds, self._group_seconds - group.account.seconds)
        if seconds <= 0:
            return "b"
        return self._ask(_gold_side(group.gold).formula, _side(attempt.answer).formula, seconds, group.account)

    def _ask(self, gold: str, answer: str | None, seconds: float, account: CpuAccount) -> str:
        request = json.dumps([gold, answer, seconds]).encode()
        for _ in range(_ATTEMPTS):
            response = self._workers.request(request, seconds + EXTRA_WALL_SECONDS, account)
            if response is not None:
                letter, used = response.decode().split()
                account.charge(float(used))
                return letter
            account.charge(seconds)
        return "l"

    def _verdict(self, attempt: Attempt, letter: str) -> Verdict:
        verdict = _unreadable(attempt.gold) if letter == "g" else Verdict(float(letter == "1"))
        self._outcomes.put(digest(attempt.gold, attempt.answer), verdict)
        return verdict

    def _out_of_time(self, job: tuple[_Group, Attempt]) -> Verdict:
        """Return the verdict on an answer whose comparison did not finish within its limits."""
        group, attempt = job
        limits = f"within {self._seconds:g} s of CPU time, {self._group_seconds:g} s for its group"
        verdict = self._unjudged(group, limits)
        self._outcomes.put(group.key(attempt), verdict)
        return verdict

    def _lost(self, job: tuple[_Group, Attempt]) -> Verdict:
        """Return the verdict on an answer whose comparison ended its worker process."""
        group, attempt = job
        verdict = self._unjudged(group, f"in {_ATTEMPTS} processes, which ended during the comparison")
        self._outcomes.put(digest(group.gold, attempt.answer), verdict)
        return verdict

    def _unjudged(self, group: _Group, limits: str) -> Verdict:
        gold = group.gold
        if self._is_readable(gold, CpuAccount(client=group.account.client)):
            return Verdict(0.0, f"it is wrong: it was not compared with the gold {quoted(gold)} {limits}")
        return Verdict(
            None, f"the gold answer {quoted(gold)} cannot be compared with anything within {self._seconds:g} s"
        )

    def _is_readable(self, gold: str, account: CpuAccount) -> bool:
        """Return whether a gold answer alone can be parsed and compared within the limit of one comparison.

        Args:
            account: its group's budget is spent, so this has an account of its own.

        Raises:
            WorkerError: worker processes are lost with every formula.
        """
        readable = self._readable.get(digest(gold))
        if readable is None:
            letter = self._ask(_gold_side(gold).formula, None, self._seconds, account)
            if letter == "l" and self._ask(_PLAIN, _PLAIN, self._seconds, account) == "l":
                raise WorkerError(
                    "the processes that compare formulas end before they answer; free memory, or raise this "
                    "container's limit"
                )
            readable = letter == "1"
            self._readable.put(digest(gold), readable)
        return readable

    def close(self) -> None:
        """Stop the worker processes."""
        self._workers.close()


def _unreadable(gold: str) -> Verdict:
    return Verdict(None, f"the gold answer {quoted(gold)} cannot be read as mathematics")


def _compare_values(gold: str, answer: str) -> Verdict | None:
    """Return the verdict where canonical values decide it, else None."""
    right, given = _gold_side(gold), _side(answer)
    if not right.value:
        return _unreadable(gold)
    if right.value == given.value:
        return Verdict(1.0)
    if _INTEGER.fullmatch(right.value) and _INTEGER.fullmatch(given.value):
        return Verdict(0.0)
    if _NUMBER.fullmatch(right.value) and _NUMBER.fullmatch(given.value):
        return Verdict(float(_same_number(Fraction(right.value), Fraction(given.value))))
    if _BASE.findall(right.value) != _BASE.findall(given.value):
        # The formula parser ignores the base of a number such as 1011_2.
        return Verdict(0.0)
    # Only the parser can decide whether a formula is readable, and an answer is not wrong against an unreadable gold.
    if not right.formula or (not given.formula and _NUMBER.fullmatch(right.value)):
        return Verdict(0.0)
    return None


def _same_number(gold: Fraction, answer: Fraction) -> bool:
    """Return whether two numbers agree to `DECIMALS` places and within `RELATIVE_TOLERANCE`."""
    close = abs(gold - answer) <= RELATIVE_TOLERANCE * max(abs(gold), abs(answer))
    return close and round(gold, DECIMALS) == round(answer, DECIMALS)


def _gold_side(gold: str) -> _Side:
    """Read a gold answer, which may be a whole solution with the answer behind a marker."""
    found = marked_answer(gold, "math") if "\n" in gold or "####" in gold else None
    return _side(found.answer if found else gold)


def _side(text: str) -> _Side:
    value = canonical_answer(text, "math", "").value
    if _NUMBER.fullmatch(value):
        return _Side(value, value)
    if not value or len(text) > MAX_FORMULA_CHARS:
        return _Side(value, "")
    text = formula(text)
    words = _WORDS.search(re.sub(r"\\[A-Za-z]+", " ", text))
    return _Side(value, "" if words or _TWO_NUMBERS.search(text) else text)
