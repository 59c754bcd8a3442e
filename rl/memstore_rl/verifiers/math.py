r"""Verifies mathematical answers: `\frac{1}{2}` equals 0.5, and `3\sqrt{2}` does not equal 3.

Verification has two steps. First, canonical values are compared: equal values are equal, different integers are
different, and words are compared as words (a formula parser would read "listen" as a product of six variables). What
remains (formulas, decimals, sets, intervals, matrices) goes to math-verify, in a worker process with a memory limit
and a time limit. math-verify rounds decimals to six places.

An answer that cannot be parsed is wrong. A gold answer that cannot be parsed, or a comparison that does not finish in
time, gives no verdict.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from memstore.runtime.processes import WorkerPool
from memstore.text import canonical_answer
from memstore.text.extract import marked_answer
from memstore.text.latex import formula
from memstore_rl.verifiers.protocol import Attempt, Verdict, quoted

CPU_SECONDS = 3.0
"""CPU time limit of one comparison."""
EXTRA_WALL_SECONDS = 60.0
"""Wall-clock seconds on top of the CPU limit before the worker is killed, for machines busy with other work."""
MAX_FORMULA_CHARS = 1_000
"""A longer formula is equal only if its canonical value is."""

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


class MathVerifier:
    """Verifies answers of domain `math`. Thread-safe."""

    def __init__(self, *, seconds: float = CPU_SECONDS, processes: int | None = None) -> None:
        """Create the verifier; its worker processes start with the first comparison that needs one.

        Args:
            seconds: CPU time limit of one comparison.
            processes: number of worker processes; None: one per CPU, at most four.
        """
        self._seconds = seconds
        command = [sys.executable, "-m", "memstore_rl.verifiers.math_worker", str(seconds)]
        self._workers = WorkerPool(command, processes or min(4, os.cpu_count() or 1))

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Return a verdict for each attempt, in order.

        Raises:
            WorkerError: math-verify does not start.
        """
        pairs = [(attempt.gold, attempt.answer) for attempt in attempts]
        by_value = {pair: _compare_values(*pair) for pair in dict.fromkeys(pairs)}
        undecided = [pair for pair, verdict in by_value.items() if verdict is None]
        requests = [
            json.dumps([_gold_side(gold).formula, _side(answer).formula]).encode() for gold, answer in undecided
        ]
        letters = self._workers.request_all(requests, self._seconds + EXTRA_WALL_SECONDS)
        by_formula = {pair: self._verdict(pair[0], letter) for pair, letter in zip(undecided, letters, strict=True)}
        return [by_value[pair] or by_formula[pair] for pair in pairs]

    def _verdict(self, gold: str, letter: bytes | None) -> Verdict:
        if letter in (b"0", b"1"):
            return Verdict(float(letter == b"1"))
        if letter == b"g":
            return Verdict(None, f"the gold answer {quoted(gold)} cannot be read as mathematics")
        return Verdict(None, f"the answer was not compared with the gold {quoted(gold)} within {self._seconds:g} s")

    def close(self) -> None:
        """Stop the worker processes."""
        self._workers.close()


def _compare_values(gold: str, answer: str) -> Verdict | None:
    """Return the verdict where canonical values decide it, else None."""
    right, given = _gold_side(gold), _side(answer)
    if not right.value:
        return Verdict(None, f"the gold answer {quoted(gold)} cannot be read as mathematics")
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
