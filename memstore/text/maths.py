r"""Canonical value of a mathematical answer.

A number is read exactly, with its currency, percent sign, unit and thousands separators dropped: `$1,200.00`,
`1200 dollars` and `\boxed{1200}` are one value, and so are `0.5`, `1/2` and `\frac12`. "50 %" counts as 50: the
query asked for a percentage. Of an equation the result counts: `x = 5`, `3 * 4 = 12`. Tuples, sets, intervals
and lists keep their order, each element canonical. What is no number stays a text, in one spelling.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from memstore.text import latex
from memstore.text.plain import collapse
from memstore.text.rational import evaluate, written
from memstore.text.units import CALCULATING, without_unit

_READ_LIMIT = 2_500
"""A longer answer is no number and no formula; it is only brought into one spacing."""
_PLAIN = re.compile(r"\s*+([-+]?)\s*+\$?([-+]?)(\d{1,3}+(?:,\d{3})++(?!\d)|\d++)(?:\.(\d*+))?\s*+%?[.\s]*+", re.A)
_PLAIN_DIGITS = 200
_SCIENTIFIC = re.compile(r"([-+]?(?:\d++(?:\.\d*+)?|\.\d++))[eE]([-+]?\d{1,4})", re.A)
_MAX_EXPONENT = 1_000

_ABOUT = re.compile(r"(?:(?:approximately|approx\.?|about|around|roughly|exactly|only|\\approx)\s++)++", re.I)
_SYMBOL = re.compile(r"\\?[A-Za-z][A-Za-z]?(?:_\{?\w\}?)?(?:\([A-Za-z]\))?")
_SYMBOLIC = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{1,2}(?![A-Za-z])")
_SENTENCE_LIMIT = 300
_SENTENCE = re.compile(r"[A-Za-z ,'’%]*+(?<![A-Za-z])([0-9][0-9,]*+(?:\.[0-9]++)?+)(?![A-Za-z])[A-Za-z ,'’%]*+")
_WORD = re.compile(r"(?:^|(?<=\s))[A-Za-z]{3,}(?=[\s,.;:'’!?]|$)")

_MAX_WRAPS, _MAX_NESTED, _MAX_ROUNDS = 40, 4, 8
_OPENING, _CLOSING = "([{", ")]}"


def canonical(answer: str) -> str:
    """The value of a mathematical answer; see the module."""
    plain = _PLAIN.fullmatch(answer) if len(answer) <= _PLAIN_DIGITS else None
    if plain:
        return _plain_number(plain)
    if len(answer) > _READ_LIMIT:
        return collapse(answer)
    value = _read(latex.clean(answer), nested=0)
    # One spelling may bring out a word or a number that another hid; what is returned reads as itself.
    for _ in range(_MAX_ROUNDS):
        again = _read(latex.clean(value), nested=0)
        if again == value:
            break
        value = again
    return value


def is_number(text: str) -> bool:
    """Is `text` a number, as a reference answer writes one?"""
    return len(text) <= _READ_LIMIT and _value(latex.clean(text)) is not None


def _plain_number(match: re.Match[str]) -> str:
    whole = match[3].replace(",", "").lstrip("0") or "0"
    decimals = (match[4] or "").rstrip("0")
    sign = "-" if (match[1] == "-") != (match[2] == "-") else ""
    if len(decimals) > 12:
        return written(Fraction(f"{sign}{whole}.{decimals}"))
    number = f"{whole}.{decimals}" if decimals else whole
    return number if number == "0" else sign + number


def _read(text: str, nested: int) -> str:
    text = _bare(text)
    value = _value(text)
    if value is not None:
        return written(value)
    result = _right_side(text, nested) or _stated(text)
    if result is not None:
        return result
    listed = _sequence(text, nested)
    if listed is not None:
        return listed
    if "\\" not in text and _WORD.search(text):
        return collapse(text.casefold())
    return latex.spell(latex.tokens(text)) or collapse(text)


def _bare(text: str) -> str:
    """`text` without "about" before it and brackets around it."""
    for _ in range(_MAX_WRAPS):
        about = _ABOUT.match(text)
        bare = latex.unwrapped(text[about.end() :] if about else text)
        if bare == text:
            break
        text = bare
    return text


def _value(text: str) -> Fraction | None:
    """The number that `text` is, its unit dropped."""
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific:
        exponent = int(scientific[2])
        return Fraction(scientific[1]) * Fraction(10) ** exponent if abs(exponent) <= _MAX_EXPONENT else None
    if not any(character.isdigit() for character in text):
        return None
    parts = latex.tokens(text)
    if "," in text and parts[0] in _OPENING:
        return None
    parts, factor = without_unit(parts, text)
    value = evaluate(parts)
    if value is None:
        value = _mixed(parts)
    return None if value is None else value * factor


def _mixed(parts: list[str]) -> Fraction | None:
    """`6 1/2` in tokens."""
    sign = -1 if parts[:1] == ["-"] else 1
    digits = parts[1:] if sign < 0 else parts
    if len(digits) != 4 or digits[2] != "/" or not (digits[0].isdigit() and digits[1].isdigit()):
        return None
    part = evaluate(digits[1:])
    return sign * (int(digits[0]) + part) if part is not None and 0 < part < 1 else None


def _right_side(text: str, nested: int) -> str | None:
    """The result of an equation: of `x = ...` whatever stands there, of a computation its number."""
    left, equals, right = text.replace("\\approx", "=").rpartition("=")
    left, right = left.strip(), right.strip()
    if not equals or not left or not right or left[-1] in "<>!=:":
        return None
    value = _value(right)
    if value is not None:
        plain = re.sub(r"\\[A-Za-z]++", " ", left)
        if _SYMBOL.fullmatch(left) or (any(map(str.isdigit, plain)) and not _SYMBOLIC.search(plain)):
            return written(value)
        return None
    return _read(right, nested) if _SYMBOL.fullmatch(left) else None


def _stated(text: str) -> str | None:
    """The one number of a sentence of plain words: "Anne is 8 years old"."""
    match = _SENTENCE.fullmatch(text) if len(text) <= _SENTENCE_LIMIT else None
    if match is None:
        return None
    words = re.findall(r"[A-Za-z]++", text.lower().replace("'s", ""))
    if len(words) < 3 or any(word in CALCULATING or (len(word) == 1 and word != "a") for word in words):
        return None
    value = _value(match[1].rstrip(","))
    return None if value is None else written(value)


def _sequence(text: str, nested: int) -> str | None:
    """A tuple, set, interval or bare list, its elements canonical and in their order."""
    if "," not in text or "=" in text or nested >= _MAX_NESTED:
        return None
    opening = text[0] if text[0] in _OPENING and text[-1] in _CLOSING else ""
    elements = _elements(text[1:-1]) if opening else []
    if not elements:
        opening, elements = "", _elements(text)
    if not elements or not all(elements) or (not opening and _WORD.search(text)):
        return None
    values = [_read(element, nested + 1) for element in elements]
    return opening + ", ".join(values) + (text[-1] if opening else "")


def _elements(inner: str) -> list[str]:
    """Split at the commas outside brackets: at those with a space behind them, where there are any."""
    commas, depth = [], 0
    for position, character in enumerate(inner):
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
            if depth < 0:
                return []
        elif character == "," and depth == 0:
            commas.append(position)
    if depth or not commas:
        return []
    spaced = [position for position in commas if inner[position + 1 : position + 2].isspace()]
    cuts = [-1, *(spaced or commas), len(inner)]
    return [inner[start + 1 : end].strip() for start, end in pairwise(cuts)]
