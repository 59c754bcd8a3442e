"""Find equations in a text and recompute them: `16 - 3 = 13` holds, `16 - 3 = 12` does not.

Words between the numbers (`16 eggs - 3 eggs = 13 eggs`), currency signs and thousands separators are skipped. Text
is not evaluated as code; only numbers and the four operations are read. All quantifiers are possessive and the text
is cut to `LIMIT` characters, so that no pattern backtracks.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LIMIT = 6000
"""Characters searched, from the end of the text."""
MAX_EQUATIONS = 64
"""Equations recomputed in one text, the last ones."""

_NUMBER = r"\d++(?:\.\d++)?+%?+"
_EQUATION = re.compile(rf"(-?+{_NUMBER}(?:[-+*/]-?+{_NUMBER})++)=(-?+{_NUMBER})")
_TERM = re.compile(rf"([-+*/]?+)(-?+)({_NUMBER})")
_CHARACTERS = {c: None for c in map(chr, range(128)) if c.isalpha()} | dict.fromkeys(" $,()_{}[]\\'\"`~:!?\t\r&^", None)
_SKIPPED = str.maketrans(_CHARACTERS | {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "€": None, "£": None})
_SPELLINGS = (
    ("\\times", "*"),
    ("\\cdot", "*"),
    ("\\div", "/"),
    (" x ", "*"),
    ("**", " "),
    (". ", "\n"),
    (", ", "\n"),
    (".\n", "\n"),
)


class Equations(NamedTuple):
    """Counts of a text's equations."""

    found: int
    wrong: int
    last: float | None
    """Right side of the last equation."""


def equations_of(text: str) -> Equations:
    """Find and recompute the equations of a text."""
    text = text[-LIMIT:]
    if "=" not in text:
        return Equations(0, 0, None)
    for spelling, sign in _SPELLINGS:
        text = text.replace(spelling, sign)
    found = _EQUATION.findall(text.translate(_SKIPPED))[-MAX_EQUATIONS:]
    wrong = sum(not _holds(left, right) for left, right in found)
    return Equations(len(found), wrong, _number(found[-1][1]) if found else None)


@lru_cache(maxsize=2**16)
def _holds(left: str, right: str) -> bool:
    """Whether the two sides are equal, within the written digits and half a percent.

    Cached, because rollouts of a group repeat the same equations.
    """
    value, claimed = _value(left), _number(right)
    if value is None:
        return False
    digits = len(right.rpartition(".")[2]) if "." in right else 0
    slack = max(0.5 * 10.0**-digits if digits else 1e-6, 0.005 * abs(claimed)) * 1.001
    # Texts write `20 / 50 = 40%` and `30 * 10% = 3`, and also `0.4 * 100 = 40%`.
    return any(abs(value - c) <= slack for c in (claimed, claimed * 100 if right.endswith("%") else claimed))


def _value(expression: str) -> float | None:
    """Value of an expression, products before sums; None for a division by zero."""
    total, product = 0.0, None
    for operator, sign, digits in _TERM.findall(expression):
        number = -_number(digits) if sign else _number(digits)
        if product is None:
            product = -number if operator == "-" else number
        elif operator == "*":
            product *= number
        elif operator == "/":
            if number == 0:
                return None
            product /= number
        else:
            total += product
            product = -number if operator == "-" else number
    return total + (product or 0.0)


def _number(text: str) -> float:
    return float(text[:-1]) / 100 if text.endswith("%") else float(text)
