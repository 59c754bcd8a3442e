r"""Maths: the answer is the gold as mathematics, so `\frac{1}{2}` is 0.5 and `3\sqrt{2}` is not 3.

Two steps. The one canonicaliser decides what it can: equal values are equal, different integers are different, and
words are compared as words (a formula parser takes "listen" for a product of six variables). What is left (formulas,
decimals, sets, intervals, matrices) goes to math-verify, in a process of its own with little memory and a time limit
that holds in any thread. Decimals are equal to six digits after the point, as math-verify rounds.

An answer that no one can read is wrong. A gold that cannot be read, or a comparison that is not finished in time, is
no verdict.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from memstore.text import canonical_answer
from memstore.text.extract import marked_answer
from memstore_rl.verifiers.processes import Workers
from memstore_rl.verifiers.protocol import Attempt, Verdict, quoted

SECONDS = 3.0
"""Of the processor's time for one comparison."""
PATIENCE_S = 60.0
"""Seconds more by the clock, on a machine that is busy with other work; then the worker is killed."""
LONGEST = 1_000
"""Characters of a formula that is compared; a longer one is equal only if its canonical value is."""

_INTEGER = re.compile(r"-?\d+")
_NUMBER = re.compile(r"-?\d+(?:\.\d+|/\d+)?")
_WORDS = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}(?![A-Za-z(^_])")
_TWO_NUMBERS = re.compile(r"\d\s+\d")


@dataclass(frozen=True)
class _Side:
    """A gold or an answer."""

    value: str
    """Canonical; "" where there is nothing."""
    formula: str
    """As math-verify is given it; "" where it shall not be asked."""


class MathVerifier:
    """Judges answers of domain `math`."""

    def __init__(self, *, seconds: float = SECONDS, processes: int | None = None) -> None:
        """Processes start when first needed.

        Args:
            seconds: of the processor's time, the limit of one comparison.
            processes: how many compare at once; None: as many as there are processors, four at most.
        """
        self._seconds = seconds
        command = [sys.executable, "-m", "memstore_rl.verifiers.math_worker", str(seconds)]
        count = processes or min(4, os.cpu_count() or 1)
        self._workers = Workers(command, b"ready", count)

    def check(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """A verdict for each attempt, in their order.

        Raises:
            WorkerFailed: math-verify does not start.
        """
        pairs = [(attempt.gold, attempt.answer) for attempt in attempts]
        verdicts = {pair: _by_value(*pair) for pair in dict.fromkeys(pairs)}
        open_pairs = [pair for pair, verdict in verdicts.items() if verdict is None]
        lines = [json.dumps([_gold(gold).formula, _side(answer).formula]).encode() for gold, answer in open_pairs]
        said = self._workers.ask_all(lines, self._seconds + PATIENCE_S)
        told = {pair: self._verdict(pair[0], letter) for pair, letter in zip(open_pairs, said, strict=True)}
        return [verdicts[pair] or told[pair] for pair in pairs]

    def _verdict(self, gold: str, letter: bytes | None) -> Verdict:
        if letter in (b"0", b"1"):
            return Verdict(float(letter == b"1"))
        if letter == b"g":
            return Verdict(None, f"the gold answer {quoted(gold)} cannot be read as mathematics")
        return Verdict(None, f"the answer was not compared with the gold {quoted(gold)} within {self._seconds:g} s")

    def close(self) -> None:
        """End the processes."""
        self._workers.close()


def _by_value(gold: str, answer: str) -> Verdict | None:
    """The verdict where canonical values decide."""
    right, given = _gold(gold), _side(answer)
    if not right.value:
        return Verdict(None, f"the gold answer {quoted(gold)} cannot be read as mathematics")
    if right.value == given.value:
        return Verdict(1.0)
    if _INTEGER.fullmatch(right.value) and _INTEGER.fullmatch(given.value):
        return Verdict(0.0)
    # Whether a formula can be read at all, only the parser knows: no answer is wrong beside a gold that cannot.
    if not right.formula or (not given.formula and _NUMBER.fullmatch(right.value)):
        return Verdict(0.0)
    return None


def _gold(gold: str) -> _Side:
    """A gold may be a whole solution, with its answer behind a marker."""
    found = marked_answer(gold, "math") if "\n" in gold or "####" in gold else None
    return _side(found.answer if found else gold)


def _side(text: str) -> _Side:
    value = canonical_answer(text, "math", "").value
    if _NUMBER.fullmatch(value):
        return _Side(value, value)
    words = _WORDS.search(re.sub(r"\\[A-Za-z]+", " ", text))
    readable = value and len(text) <= LONGEST and not words and not _TWO_NUMBERS.search(text)
    return _Side(value, text if readable else "")
