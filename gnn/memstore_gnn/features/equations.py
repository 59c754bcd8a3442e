"""Find equations in a text and recompute them: `16 - 3 = 13` holds, `16 - 3 = 12` does not.

An equation is a chain of sides, `(40 * $10) + (5 * $12) = $400 + $60 = $460`; each side is compared with the next.
Units and other words (`16 eggs - 3 eggs`), currency signs, thousands separators, percentages and LaTeX's spellings are
read. Two numbers without an operator between them belong to different expressions, so `add 5: 29 + 5 = 34` is
`29 + 5`. A side with a variable (`2x + 30`, `5 * rate`) has no value, and its equations are left out.

The text is not evaluated as code. All quantifiers are possessive and the text is cut to `LIMIT` characters, so that no
pattern backtracks; brackets and powers are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from memstore_gnn.features.arithmetic import Side, read_sides

LIMIT = 6000
"""Characters searched, from the end of the text."""
MAX_EQUATIONS = 64
"""Equations recomputed in one text, the last ones."""
ROUNDING = 0.005
"""Relative error that is taken for rounding where a division, a fraction or a percentage is involved."""

_PART = re.compile(r"\n|<<|>>|(?<=\D)\.\s|(?<=\d)[.,;]\s|;|,\s")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*+)\}\{([^{}]*+)\}")
_TIMES = re.compile(r"(?<=\d)[ \t]*+[xX][ \t]*+(?=[$€£]?+\d)")
_SPELLINGS = (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("\\%", "%"), ("\\$", ""))
_CHARACTERS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "[": "(", "]": ")", "\\": " ", "{": " ", "}": " "}
    | dict.fromkeys("$€£`", "")
)


class Equations(NamedTuple):
    """The equations of a text.

    found, wrong: equations that have a value on both sides, and those of them that do not hold.
    last: value of the last side of the last equation; None without an equation.
    steps: the numbers of the left side of each equation, and the value of its right side.
    """

    found: int
    wrong: int
    last: float | None
    steps: tuple[tuple[tuple[float, ...], float], ...] = ()

    def unsourced(self, given: frozenset[float]) -> int:
        """Number of operands that are neither given nor the result of an earlier equation."""
        return sum(number not in known for numbers, known in self._with_known(given) for number in numbers)

    def starts_unsourced(self, given: frozenset[float]) -> bool:
        """Whether an equation starts with a number that is neither given nor an earlier result."""
        return any(numbers[0] not in known for numbers, known in self._with_known(given))

    def _with_known(self, given: frozenset[float]) -> Iterator[tuple[tuple[float, ...], Set[float]]]:
        """The numbers of each left side, and what is given or was computed before; valid until the next step."""
        known = set(given)
        for numbers, result in self.steps:
            yield numbers, known
            known.add(result)


class _Equation(NamedTuple):
    left: Side
    right: Side


@lru_cache(maxsize=2048)
def equations_of(text: str) -> Equations:
    """Find and recompute the equations of a text. Cached, because two kinds of features read the texts of a batch."""
    text = text[-LIMIT:]
    if "=" not in text:
        return Equations(0, 0, None)
    for spelling, sign in _SPELLINGS:
        text = text.replace(spelling, sign)
    text = _TIMES.sub("*", _FRACTION.sub(r"(\1)/(\2)", text)).translate(_CHARACTERS)
    found = [one for part in _PART.split(text) if "=" in part for one in _equations_in(part)][-MAX_EQUATIONS:]
    wrong = sum(not _holds(one) for one in found)
    steps = tuple((one.left.numbers, one.right.value) for one in found if one.right.value is not None)
    return Equations(len(found), wrong, steps[-1][1] if steps else None, steps)


@lru_cache(maxsize=2**16)
def _equations_in(part: str) -> tuple[_Equation, ...]:
    """The equations of a part of a line. Cached, because rollouts of a group repeat the same equations."""
    sides = read_sides(part)
    return tuple(
        _Equation(left.as_left, right.as_right)
        for left, right in pairwise(sides)
        if left.as_left.value is not None and right.as_right.value is not None and left.as_left.operators
    )


def _holds(equation: _Equation) -> bool:
    """Whether the two sides are equal: exactly for whole numbers, else within the written digits and `ROUNDING`."""
    left, right = equation
    value, claimed = left.value, right.value
    if value is None or claimed is None:
        raise ValueError("a side of the equation has no value")
    if right.operators and value == right.numbers[0]:  # `10 - 8 = 2 * 30 = 60`, a chain of steps
        return True
    if left.whole and right.whole:
        return value == claimed
    slack = max(0.5 * 10.0**-right.digits if right.digits else 1e-6, ROUNDING * abs(claimed)) * 1.001
    # Texts write `20 / 50 = 40%` and `30 * 10% = 3`, and also `0.4 * 100 = 40%`.
    return any(abs(value - c) <= slack for c in (claimed, claimed * 100 if right.percent else claimed))
