"""Equations inside a text, recomputed: `16 - 3 = 13` holds, `16 - 3 = 12` does not.

Words between the numbers are skipped (`16 eggs - 3 eggs = 13 eggs`), and so are currency signs and thousands
separators. Nothing here evaluates text as code: numbers and the four operations only. Every quantifier is
possessive and the text is cut to `LIMIT` characters, so that no text makes a pattern backtrack.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

LIMIT = 6000
"""Characters of a text that are searched, its end."""
MOST = 64
"""Equations of one text that are recomputed, its last ones."""

_NUMBER = r"\d++(?:\.\d++)?+%?+"
_EQUATION = re.compile(rf"(-?+{_NUMBER}(?:[-+*/]-?+{_NUMBER})++)=(-?+{_NUMBER})")
_TERM = re.compile(rf"([-+*/]?+)(-?+)({_NUMBER})")
_CHARACTERS = {c: None for c in map(chr, range(128)) if c.isalpha()} | dict.fromkeys(" $,()_{}[]\\'\"`~:!?\t\r&^", None)
_SKIPPED = str.maketrans(_CHARACTERS | {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "€": None, "£": None})
_SPELT = (
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
    """What a text's equations are worth."""

    found: int
    wrong: int
    last: float | None
    """The right side of the last one."""


def equations_of(text: str) -> Equations:
    """Find and recompute the equations of a text."""
    text = text[-LIMIT:]
    if "=" not in text:
        return Equations(0, 0, None)
    for spelling, sign in _SPELT:
        text = text.replace(spelling, sign)
    found = _EQUATION.findall(text.translate(_SKIPPED))[-MOST:]
    wrong = sum(not _holds(left, right) for left, right in found)
    return Equations(len(found), wrong, _number(found[-1][1]) if found else None)


@lru_cache(maxsize=2**16)
def _holds(left: str, right: str) -> bool:
    """Does the left side give the right one, to the digits that are written and half a percent.

    Siblings write the same equations, so each is recomputed once.
    """
    value, claimed = _value(left), _number(right)
    if value is None:
        return False
    digits = len(right.rpartition(".")[2]) if "." in right else 0
    slack = max(0.5 * 10.0**-digits if digits else 1e-6, 0.005 * abs(claimed)) * 1.001
    # `20 / 50 = 40%` and `30 * 10% = 3` are both written; so is `0.4 * 100 = 40%`.
    return any(abs(value - c) <= slack for c in (claimed, claimed * 100 if right.endswith("%") else claimed))


def _value(expression: str) -> float | None:
    """Products first, then sums; None for a division by zero."""
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
