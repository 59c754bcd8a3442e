"""Recognise the unit after a number and remove it if that does not change the value.

A word is not a unit if it computes ("5 less than Anne's age", "2 thirds"), may be a variable ("3 x"), or counts in
another base ("2 dozen"). Multipliers are applied: "1.8 million" is 1800000.
"""

from __future__ import annotations

import re

_MULTIPLIERS = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SHORT_UNITS = frozenset(
    [
        "cm", "mm", "km", "kg", "mg", "ml", "mL", "lb", "lbs", "oz", "ft", "in", "yd", "mi", "hr", "hrs", "sec",
        "min", "mph", "per", "of", "GB", "MB", "kB", "kW", "USD",
    ]
)  # fmt: skip
_NO_UNITS = frozenset(
    [
        "and", "or", "plus", "minus", "over", "than", "more", "less", "fewer", "remainder", "to", "mod",
        "choose", "not", "factorial", "divided", "multiplied", "times", "squared", "cubed", "sin", "cos", "tan",
        "cot", "sec", "csc", "log", "ln", "exp", "sqrt", "pi", "theta", "alpha", "beta", "gamma", "delta",
        "lambda", "sigma", "omega", "phi", "psi", "rho", "tau", "half", "third", "quarter", "halves", "thirds",
        "quarters", "fourths", "fifths", "sixths", "sevenths", "eighths", "ninths", "tenths", "hundredths",
        "thousandths", "millionths", "dozen", "dozens", "below", "negative",
    ]
)  # fmt: skip
CALCULATING = (
    (_NO_UNITS - {"to", "and"})
    | _MULTIPLIERS.keys()
    | frozenset([
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "twenty", "twice", "double", "triple", "either", "between", "least", "no", "january", "february",
        "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
        "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
    ])
)  # fmt: skip
"""Words that change the value or the meaning of the only number in a sentence."""
_PER = frozenset(
    [
        "hour", "day", "week", "month", "year", "minute", "second", "night", "person", "each", "mile", "pound",
        "gallon", "unit", "item", "piece",
    ]
)  # fmt: skip
_GLUE = frozenset("/-'’{}().")
"""Tokens that may join the words of a unit."""
_MAX_UNIT_TOKENS = 14
"""Tokens of the longest unit."""


def without_unit(parts: list[str], text: str) -> tuple[list[str], int]:
    """Return the tokens before the unit and the factor of its words (10**6 for "2 million").

    Without a unit, all tokens and 1.
    """
    if parts[-1] in ("%", "\\%"):
        return parts[:-1], 1
    start = len(parts)
    while start and len(parts) - start < _MAX_UNIT_TOKENS and _may_be_unit(parts, start - 1):
        start -= 1
    while start < len(parts) and not parts[start][0].isalpha():
        start += 1
    unit = [part for part in parts[start:] if part[0].isalpha()]
    if not start or not unit or not (unit == ["times"] or all(map(_is_unit_word, unit))):
        return parts, 1
    if unit[0] not in _SHORT_UNITS and re.search(r"\d" + re.escape(unit[0]), text):
        return parts, 1
    before = parts[:start]
    while before and (before[-1] in ("{", "(", "%") or (before[-1] == "/" and unit[0] in _PER)):
        before.pop()
    factor = 1
    for word in unit:
        multiplier = _MULTIPLIERS.get(word.lower().removesuffix("s"))
        if multiplier is None:
            break
        factor *= multiplier
    return before, factor


def _may_be_unit(parts: list[str], at: int) -> bool:
    part = parts[at]
    if part in ("2", "3"):
        return at >= 2 and parts[at - 1] == "^" and (parts[at - 2][0].isalpha() or parts[at - 2] == "}")
    if part == "^":
        return at + 1 < len(parts) and parts[at + 1] in ("2", "3")
    return part[0].isalpha() or part in _GLUE


def _is_unit_word(word: str) -> bool:
    return word in _SHORT_UNITS or (len(word) >= 3 and word.isascii() and word.lower() not in _NO_UNITS)
