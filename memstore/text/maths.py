r"""Canonical value of a mathematical answer.

Numbers are exact rationals without currency, percent sign, unit and thousands separators: `$1,200.00`, `1200 dollars`
and `\boxed{1200}` have the same value, and so have `0.5`, `1/2` and `\frac12`. "50 %" is 50, because the query asks for
a percentage. The value of an equation is its right side: `x = 5`, `3 * 4 = 12`. Tuples, sets, intervals and lists keep
their order, and their elements are canonical. All other answers are compared as normalised text.
"""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import pairwise

from memstore.text import latex
from memstore.text.plain import collapse, digest
from memstore.text.rational import decimal_value, evaluate, format_rational
from memstore.text.units import (
    CALCULATING,
    without_area,
    without_cjk_unit,
    without_formula_unit,
    without_symbols,
    without_unit,
)

_READ_LIMIT = 2_500
"""Characters; of an answer that is longer without its extra whitespace, only the whitespace is normalised."""
_PLAIN = re.compile(r"\s*+([-+]?)\s*+\$?([-+]?)(\d{1,3}+(?:,\d{3})++(?!\d)|\d++)(?:\.(\d*+))?\s*+%?\s*+\.?+\s*+", re.A)
_MAX_PLAIN = 200
"""Characters up to which an answer is tried as a plain number, the fast path."""
_SCIENTIFIC = re.compile(r"([-+]?(?:\d++(?:\.\d*+)?|\.\d++))[eE]([-+]?\d{1,4})", re.A)
_MAX_EXPONENT = 1_000
"""Largest exponent of scientific notation that is evaluated."""

_BASED = re.compile(
    r"\(?\s*([-+]?[0-9A-Za-z][0-9A-Za-z, .]{0,200}?)\s*\)?\s*"
    r"(?:_\s*\{?\s*\(?\s*(?:base\s*)?([0-9]{1,2}|[a-z]+)\s*\)?\s*\}?|\(?\s*(?:in\s+)?base[\s-]*([0-9]{1,2}|[a-z]+)\s*\)?)"
)
_BASES = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "eleven": 11,
    "twelve": 12, "sixteen": 16,
}  # fmt: skip
_AND = re.compile(r"\s*(?:,\s*)?(?:(?<![A-Za-z\\])and(?![A-Za-z])|&|[和与及])\s*")
_MIXED_IN_WORDS = re.compile(r"[0-9]\s*and\s*(?:a\b|[0-9]+\s*/|\\frac)")
_ABOUT = re.compile(
    r"(?:(?:approximately|approx\.?|about|around|roughly|exactly|only|\\approx)\s++"
    r"|(?:the\s++)?(?:final\s++|correct\s++)?answer(?:\s++is)?\s*+:\s*+|=\s*+(?==?[^=]))++",
    re.I,
)
_SYMBOL = re.compile(r"\\?[A-Za-z][A-Za-z]?(?:_\{?\w\}?)?(?:\([A-Za-z]\))?")
_SYMBOLIC = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{1,2}(?![A-Za-z])")
_SENTENCE_LIMIT = 300
"""Characters up to which a sentence is searched for its one number."""
_SENTENCE = re.compile(r"[A-Za-z ,'’%]*+(?<![A-Za-z])([0-9][0-9,]*+(?:\.[0-9]++)?+)(?![A-Za-z])[A-Za-z ,'’%]*+")
_WORD = re.compile(r"(?:^|(?<=\s))[A-Za-z]{3,}(?=[\s,.;:'’!?]|$)")

_MAX_WRAPS, _MAX_NESTED, _MAX_ROUNDS = 40, 4, 8
_OPENING, _CLOSING = "([{", ")]}"


def canonical(answer: str) -> str:
    """Return the canonical value of a mathematical answer, as described in the module docstring."""
    plain = _PLAIN.fullmatch(answer) if len(answer) <= _MAX_PLAIN else None
    if plain:
        return _plain_number(plain)
    if len(answer) > _READ_LIMIT:
        answer = collapse(answer)
        if len(answer) > _READ_LIMIT:
            return answer
    value = _read(latex.clean(answer), nested=0)
    # Normalising may expose a word or a number that was hidden before; repeat until the value is a fixed point.
    for _ in range(_MAX_ROUNDS):
        again = _read(latex.clean(value), nested=0)
        if again == value:
            return value
        value = again
    return digest(collapse(answer))


def is_number(text: str) -> bool:
    """Return whether `text` is a number, with or without LaTeX, currency and unit."""
    return len(text) <= _READ_LIMIT and _value(latex.clean(text)) is not None


def _plain_number(match: re.Match[str]) -> str:
    whole = match[3].replace(",", "").lstrip("0") or "0"
    decimals = (match[4] or "").rstrip("0")
    sign = "-" if (match[1] == "-") != (match[2] == "-") else ""
    if len(decimals) > 8:
        value = decimal_value(f"{whole}.{match[4]}")
        return format_rational(-value if sign else value)
    number = f"{whole}.{decimals}" if decimals else whole
    return number if number == "0" else sign + number


def _read(text: str, nested: int) -> str:
    text = _bare(text)
    based = _with_base(text)
    if based is not None:
        return based
    bare, factor = without_cjk_unit(text)
    value = _value(bare)
    if value is not None:
        return format_rational(value * factor)
    if factor == 1:
        text = bare
    result = _right_side(text, nested) or _stated(text)
    if result is not None:
        return result
    shorter = without_formula_unit(text)
    if shorter != text and not _WORD.search(re.sub(r"\\[A-Za-z]++", " ", shorter)):
        return _read(shorter, nested)
    listed = _sequence(text, nested)
    if listed is not None:
        return listed
    if "\\" not in text and _WORD.search(text):
        return collapse(text.casefold())
    return latex.spell(latex.tokens(text)) or collapse(text)


def _bare(text: str) -> str:
    """Remove a leading "about" and surrounding brackets."""
    for _ in range(_MAX_WRAPS):
        about = _ABOUT.match(text)
        bare = latex.unwrapped(text[about.end() :] if about else text)
        if bare == text:
            break
        text = bare
    return text


def _with_base(text: str) -> str | None:
    """A number in another base than ten, as `1011_2` or `2F_{16}`: the base is part of its value."""
    match = _BASED.fullmatch(text) if "_" in text or "base" in text else None
    if match is None:
        return None
    name = match[2] or match[3]
    base = int(name) if name.isdigit() else _BASES.get(name, 0)
    digits = re.sub(r"[, ]", "", match[1]).lstrip("+").upper()
    letters = re.search(r"[A-Z]", digits)
    if not 2 <= base <= 36 or (letters and (base <= 10 or not (any(map(str.isdigit, digits)) or base == 16))):
        return None
    if base == 10:
        value = _value(digits)
        return None if value is None else format_rational(value)
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    return f"{sign}{digits.lstrip('0') or '0'}_" + (str(base) if base < 10 else f"{{{base}}}")


def _value(text: str) -> Fraction | None:
    """The number in `text` without its unit, or None if `text` is not a number."""
    scientific = _SCIENTIFIC.fullmatch(text)
    if scientific:
        return _scientific_value(scientific) if abs(int(scientific[2])) <= _MAX_EXPONENT else None
    if not any(character.isdigit() for character in text):
        return None
    text = without_area(without_symbols(text))
    scientific = _SCIENTIFIC.match(text)
    if scientific and abs(int(scientific[2])) <= _MAX_EXPONENT:
        parts, factor = without_unit(latex.tokens("1" + text[scientific.end() :]), text)
        return _scientific_value(scientific) * factor if parts == ["1"] else None
    parts = latex.tokens(text)
    if "," in text and parts[0] in _OPENING:
        return None
    parts, factor = without_unit(parts, text)
    value = evaluate(parts)
    if value is None:
        value = _mixed(parts)
    return None if value is None else value * factor


def _scientific_value(match: re.Match[str]) -> Fraction:
    digits = match[1].lstrip("+-")
    value = decimal_value(digits) * Fraction(10) ** int(match[2])
    return -value if match[1].startswith("-") else value


def _mixed(parts: list[str]) -> Fraction | None:
    """The value of a mixed number such as `6 1/2`."""
    sign = -1 if parts[:1] == ["-"] else 1
    digits = parts[1:] if sign < 0 else parts
    if len(digits) != 4 or digits[2] != "/" or not (digits[0].isdigit() and digits[1].isdigit()):
        return None
    part = evaluate(digits[1:])
    return sign * (int(digits[0]) + part) if part is not None and 0 < part < 1 else None


def _right_side(text: str, nested: int) -> str | None:
    """The result of an equation: any right side of `x = ...`, but only a number for a computation."""
    left, equals, right = text.replace("\\approx", "=").rpartition("=")
    left, right = left.strip(), right.strip()
    if not equals or not left or not right or left[-1] in "<>!=:":
        return None
    value = _value(right)
    if value is not None:
        plain = re.sub(r"\\[A-Za-z]++", " ", left)
        if _SYMBOL.fullmatch(left) or (any(map(str.isdigit, plain)) and not _SYMBOLIC.search(plain)):
            return format_rational(value)
        return None
    return _read(right, nested) if _SYMBOL.fullmatch(left) else None


def _stated(text: str) -> str | None:
    """The only number in a sentence of plain words: "Anne is 8 years old"."""
    match = _SENTENCE.fullmatch(text) if len(text) <= _SENTENCE_LIMIT else None
    if match is None:
        return None
    words = re.findall(r"[A-Za-z]++", text.lower().replace("'s", ""))
    if len(words) < 3 or any(word in CALCULATING or (len(word) == 1 and word != "a") for word in words):
        return None
    value = _value(match[1].rstrip(","))
    return None if value is None else format_rational(value)


def _sequence(text: str, nested: int) -> str | None:
    """A tuple, set, interval or bare list with canonical elements in their order."""
    if ("and" in text or "&" in text or not text.isascii()) and not _MIXED_IN_WORDS.search(text):
        text = _AND.sub(", ", text).strip(", ")
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
    """Split at the commas outside brackets; if some commas are followed by a space, only at those."""
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
