"""Read the sides of an equation as people write it, and compute them.

A part of a line is cut at its equals signs. The *end* of a piece is the side left of the sign that follows it, and the
*start* of a piece is the side right of the sign before it. Words are units or talk: they are skipped, unless they
stand where an operand is missing (`5 * rate`), which makes the side unknown, as a variable does (`2x`).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

MAX_NUMBER = 18
"""Characters of the longest number that is read."""
MAX_BASE, MAX_POWER = 1e4, 64.0
"""Largest base and exponent that are computed."""

_WORD = r"[^\W\d_]{2}(?:[\w'’]|[/-](?=[^\W\d_]))*+"
_TOKEN = re.compile(
    r"(?P<clock>\d{1,2}+:\d{2}(?!\d))"
    r"|(?P<number>(?:\d{1,3}+(?:,\d{3}(?!\d))++|\d++)(?:\.\d++)?+|(?<!\d)\.\d++)(?P<percent>[ ]?+%)?+"
    rf"|(?P<words>{_WORD}(?: {_WORD})*+)|(?P<letter>[^\W\d_]\w*+|(?<=\w)-(?=[^\W\d_]{{2}}))"
    r"|(?P<sign>[-+*/^()])|(?P<space>[\s_~\"'|]++)|(?P<other>.)"
)
_REMARK = re.compile(r"(?<=[\w%]) \((?:[^()+*/=-]|(?<=\w)-(?=[^\W\d_]))*+\)")
_MIXED = re.compile(r"(?<![\d/.])(\d++) (\d)/(\d{1,2}+)(?![\d/])")
_POWER = re.compile(r"(?<=\d)\*\*(?=\d)")
_LETTERS = re.compile(r"[^\W\d_]{2}")
_BULLET = re.compile(r"\A\s*+[-*•]\s++")
_UNITS = frozenset("aAIsmghlL-")
"""Words of one letter that are not variables, and the hyphen of `36-minute`."""
_RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "~": 3, "^": 4}
_MINUS = "~"
_COMPUTE: dict[str, Callable[[float, float], float]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}


class Side(NamedTuple):
    """One side of an equation.

    value: None if it is unknown; NaN for a division by zero. operators: how many it has. numbers: as written, a
    percentage as a fraction. whole: whether whole numbers are added, subtracted and multiplied only. digits: after the
    point of a single number. percent: whether it is a single percentage.
    """

    value: float | None
    operators: int = 0
    numbers: tuple[float, ...] = ()
    whole: bool = False
    digits: int = 0
    percent: bool = False


UNKNOWN = Side(None)


class Piece(NamedTuple):
    """What stands between two equals signs: as the left side of the second, and as the right side of the first."""

    as_left: Side
    as_right: Side


class _Token(NamedTuple):
    kind: str
    """`number`, `word`, `break`, or a sign."""
    value: float = 0.0
    text: str = ""
    percent: bool = False
    touches: bool = False
    """Whether no space is between this token and the one before it."""


_BREAK = _Token("break")


def read_sides(part: str) -> list[Piece]:
    """Cut a part of a line at its equals signs and compute the sides."""
    text = _BULLET.sub("", part, count=1)
    if "**" in text:
        text = _POWER.sub("^", text).replace("**", " ")
    if "(" in text:
        text = _REMARK.sub(_without_remark, text)
    text = _MIXED.sub(r"(\1 + \2/\3)", text)
    return [_piece(_runs(_tokens(piece))) for piece in text.split("=")]


def _piece(runs: Sequence[Sequence[_Token]]) -> Piece:
    left, right = _after_open(runs[-1]), _before_dash(runs[0])
    end = _compute(left)
    return Piece(end, end if right is left else _compute(right))


def _without_remark(match: re.Match[str]) -> str:
    """`15 miles (half an hour at 30 mph)` without the bracket, since it holds words and no operator."""
    return " " if _LETTERS.search(match[0]) else match[0]


def _tokens(text: str) -> Iterator[_Token]:
    """Tokens of a text; characters that end an expression are breaks."""
    touches = False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "sign":
            yield _Token(match[0], 0.0, match[0], False, touches)
        elif kind in ("words", "letter", "clock"):
            yield _Token("word", 0.0, match[0], False, touches)
        elif kind == "other":
            yield _BREAK
        elif kind != "space":
            yield _number(match["number"], match["percent"] is not None, touches)
        touches = kind != "space"


def _number(text: str, percent: bool, touches: bool) -> _Token:
    if len(text) > MAX_NUMBER:
        return _BREAK
    value = float(text.replace(",", ""))
    return _Token("number", value / 100.0 if percent else value, text, percent, touches)


def _runs(tokens: Iterable[_Token]) -> list[list[_Token]]:
    """Cut at breaks, at a bracket that closes nothing, and between two operands without an operator."""
    runs: list[list[_Token]] = [[]]
    operand, depth = False, 0
    for token in tokens:
        run = runs[-1]
        if token.kind == "break" or (token.kind == ")" and not depth):
            runs.append([])
            operand, depth = False, 0
            continue
        if token.kind in ("number", "(") and operand:
            if _multiplies(run, token):
                run.append(_Token("*", text="*"))
            elif depth:
                run.append(_Token("word", text="?"))  # makes the side unknown: two operands in one bracket
            else:
                runs.append([])
        depth += (token.kind == "(") - (token.kind == ")")
        operand = token.kind in ("number", ")") or (token.kind == "word" and operand)
        runs[-1].append(token)
    return runs


def _multiplies(run: Sequence[_Token], token: _Token) -> bool:
    """Whether an operand is a factor of the one before it: `5(3 + 2)`, `20% of 50`, `1/2 of 10`, `5 eggs x (3)`."""
    last = run[-1]
    if last.kind != "word":
        return token.kind == "(" and token.touches
    if last.text in ("x", "X"):
        return True
    return last.text.endswith("of") and any(one.percent or one.kind == "/" for one in run[-4:])


def _after_open(run: Sequence[_Token]) -> Sequence[_Token]:
    """What follows the last bracket that is not closed: `(5 + 3` is `5 + 3`."""
    depth = 0
    for at in range(len(run) - 1, -1, -1):
        depth += (run[at].kind == ")") - (run[at].kind == "(")
        if depth < 0:
            return run[at + 1 :]
    return run


def _before_dash(run: Sequence[_Token]) -> Sequence[_Token]:
    """What comes before a minus sign that is a dash: `13 - so she` is `13`."""
    for at, token in enumerate(run[1:], 1):
        after = run[at + 1] if at + 1 < len(run) else _Token("word")
        if token.kind == "-" and after.kind == "word" and not after.touches:
            return run[:at]
    return run


def _compute(run: Sequence[_Token]) -> Side:
    """Compute an expression, products before sums; UNKNOWN if it is not one."""
    signs = _signs(run)
    if not signs:
        return UNKNOWN
    value = _evaluate(signs)
    if value is None:
        return UNKNOWN
    numbers = [token for token in signs if token.kind == "number"]
    count = sum(token.kind in _RANK and token.kind != _MINUS for token in signs)
    whole = not any(t.percent or "." in t.text for t in numbers) and not any(t.kind in "/^" for t in signs)
    digits = len(numbers[0].text.rpartition(".")[2]) if not count and "." in numbers[0].text else 0
    single = not count and numbers[0].percent
    return Side(value, count, tuple(token.value for token in numbers), whole, digits, single)


def _signs(run: Sequence[_Token]) -> list[_Token]:
    """The numbers, operators and brackets of a run; empty where an operand is a word or missing."""
    signs: list[_Token] = []
    operand, word = False, False
    for at, token in enumerate(run):
        if token.kind == "word":
            if (len(token.text) == 1 and token.text not in _UNITS and not _times(run, at)) or _is_variable(run, at):
                return []
            word = True
            continue
        if token.kind in ("number", "("):
            if word and signs:  # `3 * time for 1 mile`
                return []
            operand = token.kind == "number"
            signs.append(token)
        elif token.kind == ")":
            if not operand:
                return []
            signs.append(token)
        elif operand:
            operand = False
            signs.append(token)
        elif token.kind == "-" and not word:
            signs.append(_Token(_MINUS, text=_MINUS))
        else:
            return []
        word = False
    return signs if operand else []


def _times(run: Sequence[_Token], at: int) -> bool:
    """Whether a word is the multiplication sign that `_runs` has put after it."""
    return run[at].text in ("x", "X") and at + 1 < len(run) and run[at + 1].kind == "*"


def _is_variable(run: Sequence[_Token], at: int) -> bool:
    """Whether a letter is glued to the number before it, as in `2x`."""
    glued = at > 0 and run[at - 1].kind == "number" and run[at].touches
    return glued and len(run[at].text) == 1 and run[at].text != "-"


def _evaluate(signs: Sequence[_Token]) -> float | None:
    """Evaluate with two stacks; None if brackets do not match or a power is too large."""
    values: list[float] = []
    waiting: list[str] = []
    for token in signs:
        if token.kind == "number":
            values.append(token.value)
        elif token.kind == "(" or token.kind == _MINUS:
            waiting.append(token.kind)
        elif token.kind == ")":
            while waiting and waiting[-1] != "(":
                if not _apply(values, waiting.pop()):
                    return None
            if not waiting:
                return None
            waiting.pop()
        else:
            while waiting and waiting[-1] != "(" and _goes_first(waiting[-1], token.kind):
                if not _apply(values, waiting.pop()):
                    return None
            waiting.append(token.kind)
    while waiting:
        if waiting[-1] == "(" or not _apply(values, waiting.pop()):
            return None
    return values[0] if len(values) == 1 else None


def _goes_first(waiting: str, sign: str) -> bool:
    return _RANK[waiting] > _RANK[sign] or (_RANK[waiting] == _RANK[sign] and sign != "^")


def _apply(values: list[float], sign: str) -> bool:
    """Replace the operands on top by their result; False if there is none."""
    if len(values) < 1 + (sign != _MINUS):
        return False
    right = values.pop()
    if sign == _MINUS:
        values.append(-right)
        return True
    left = values.pop()
    if sign == "/":
        values.append(left / right if right else float("nan"))
    elif sign == "^":
        if not 1.0 / MAX_BASE <= left <= MAX_BASE or abs(right) > MAX_POWER:
            return False
        values.append(left**right)
    else:
        values.append(_COMPUTE[sign](left, right))
    return True
