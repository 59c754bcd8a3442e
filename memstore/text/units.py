"""Recognise the unit after a number or a formula and remove it if that does not change the value.

A word is not a unit if it computes ("5 less than Anne's age", "2 thirds"), may be a variable ("3 x"), or counts in
another base ("2 dozen"). Multipliers are applied: "1.8 million" is 1800000. Behind a formula only the units of a fixed
list are removed, because any other word may belong to the formula.
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
        "thousandths", "millionths", "dozen", "dozens", "below", "negative", "base", "overline", "ldots", "dots",
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

_SYMBOLS = (
    "kWh", "MWh", "kcal", "mol", "kPa", "MPa", "GPa", "atm", "rpm", "mph", "kph", "Hz", "kHz", "MHz", "GHz", "km", "cm",
    "mm", "nm", "kg", "mg", "mL", "ml", "kW", "MW", "kJ", "MJ", "kN", "eV", "Pa", "hr", "min", "sec", "ft", "yd", "mi",
    "lbs", "lb", "oz", "gal", "GB", "MB", "TB", "kB", "KB", "Mb", "Gb", "kb", "dL", "dm", "in", "cal", "bar",
)  # fmt: skip
_LETTER_SYMBOLS = ("m", "s", "h", "g", "L", "l", "N", "J", "W", "V", "A", "K", "C", "F")
"""Symbols of one letter, which is a variable unless it stands beside another unit or in `\\text{...}`."""
_POWER = r"(?:\s*\^\s*\{?\s*-?[1-4]\s*\}?)?"
_ANY_SYMBOL = "(?:" + "|".join((*_SYMBOLS, *_LETTER_SYMBOLS)) + ")(?![A-Za-z])" + _POWER
_COMPOUND = re.compile(
    rf"(?<=[0-9)}}\s])\s*(?<![A-Za-z]){_ANY_SYMBOL}(?:\s*(?:/|\*|\\times|\bper\b)\s*\(?\s*{_ANY_SYMBOL}\s*\)?){{1,3}}\s*\Z"
)

_AREA = re.compile(r"(?<=[0-9)}])(?:\s+m\s*\^\s*\{?\s*[23]\s*\}?|\s*[kM]?(?:Ω|\\Omega))\s*\Z")

_WORDS = (
    "units?", "square", "cubic", "sq", "cu", "meters?", "metres?", "centimeters?", "centimetres?",
    "millimeters?", "millimetres?", "kilometers?", "kilometres?", "feet", "foot", "inch", "inches", "yards?", "miles?",
    "grams?", "kilograms?", "pounds?", "ounces?", "tons?", "lit(?:er|re)s?", "milliliters?", "gallons?", "seconds?",
    "minutes?", "hours?", "days?", "weeks?", "months?", "years?", "degrees?", "radians?", "dollars?", "cents?",
    "euros?", "percent", "newtons?", "joules?", "watts?", "volts?", "per",
)  # fmt: skip
_ADJECTIVES = frozenset(["square", "cubic", "sq", "cu", "per"])
_NAMES = "|".join((*_WORDS, *(symbol for symbol in _SYMBOLS if symbol not in ("in", "min", "bar"))))
_FORMULA_UNIT = re.compile(
    rf"(?<=[0-9)}}\]\sA-Za-z])(?:\s+|(?<=[0-9)}}\]]))(?:(?:{_NAMES})(?![A-Za-z]){_POWER}[\s./-]*){{1,5}}\Z"
)

_CJK = "\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3"
_CJK_BEHIND = re.compile(rf"(.*[0-9)}}\]])\s*([{_CJK}]{{1,10}})(?:\s*/\s*[{_CJK}]{{1,6}})?\s*", re.S)
_CJK_MULTIPLIERS = {
    "十": 10, "百": 10**2, "千": 10**3, "万": 10**4, "萬": 10**4, "만": 10**4, "亿": 10**8, "億": 10**8, "억": 10**8,
}  # fmt: skip
_CJK_UNITS = re.compile(
    "(?:平方|立方)?(?:厘米|毫米|分米|千米|公里|米|千克|公斤|毫克|毫升|克|吨|升|斤|英里|英尺|英寸)"
    "|美元|人民币|日元|元|块钱|块|角|分钟|分|小时|个小时|个|小時|時間|秒钟|秒|天|日|周|个月|月|年|岁|歳|人|名|位|只|隻|支|本|条|张|枚|辆"
    "|箱|盒|袋|瓶|杯|台|件|双|套|头|匹|颗|粒|页|次|种|倍|摄氏度|度|公顷|亩|组|对|家|所|座|艘|架|句|首|篇|步|级|层|排|行|列|桶|筐|串|棵|朵"
    "|枝|根|片|円|個|回|원|개|명|시간|분|초|살|권|마리|킬로미터|미터|센티미터|그램|킬로그램"
    "|リットル|メートル|キロメートル|センチメートル|グラム|キログラム"
)


_CJK_COUNTED = re.compile(
    f"[个個只隻支本条张位名朵棵颗辆件块枚](?:(?![半多余以左又加减乘除分之倍万亿千百十和与及或])[{_CJK}]){{1,4}}"
)
"""A counter and what it counts: 12个苹果."""


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


def without_symbols(text: str) -> str:
    """Remove a compound unit behind a number, such as "km/h" or "kg/m^3"."""
    unit = _COMPOUND.search(text)
    return text[: unit.start()].rstrip() if unit and any(map(str.isdigit, text[: unit.start()])) else text


def without_area(text: str) -> str:
    """Remove "m^2" or "m^3" behind a number and a blank, and the sign of ohm; `5m^2` without a blank is a product."""
    return _AREA.sub("", text)


def without_formula_unit(text: str) -> str:
    """Remove the unit behind a formula: "16\\pi square units"; only units that cannot be part of one."""
    unit = _FORMULA_UNIT.search(text)
    if unit is None or unit[0].split()[-1] in _ADJECTIVES or not text[: unit.start()].strip():
        return text
    return text[: unit.start()].rstrip()


def without_cjk_unit(text: str) -> tuple[str, int]:
    """Remove a Chinese, Japanese or Korean unit behind a number and return the factor of its words: 3万元 is 30000."""
    behind = _CJK_BEHIND.fullmatch(text)
    if behind is None:
        return text, 1
    unit, factor = behind[2], 1
    while unit and not _CJK_UNITS.fullmatch(unit) and not _CJK_COUNTED.fullmatch(unit):
        multiplier = _CJK_MULTIPLIERS.get(unit[0])
        if multiplier is None:
            return text, 1
        factor *= multiplier
        unit = unit[1:]
    return behind[1], factor


def is_text_unit(words: str) -> bool:
    r"""Return whether the content of `\text{...}` behind a number is a unit; there a single letter is one too."""
    found = re.findall(r"[A-Za-z]+", words)
    symbols = (*_SYMBOLS, *_LETTER_SYMBOLS)
    if not found or re.search(r"[0-9=<>,]", re.sub(r"\^\s*\{?-?[1-4]\}?", "", words)):
        return False
    if len(found) == 1 and found[0] in ("e", "i"):
        return False
    return all(word in symbols or re.fullmatch("|".join(_WORDS), word.lower()) for word in found)


def _may_be_unit(parts: list[str], at: int) -> bool:
    part = parts[at]
    if part in ("2", "3"):
        return at >= 2 and parts[at - 1] == "^" and (parts[at - 2][0].isalpha() or parts[at - 2] == "}")
    if part == "^":
        return at + 1 < len(parts) and parts[at + 1] in ("2", "3")
    return part[0].isalpha() or part in _GLUE


def _is_unit_word(word: str) -> bool:
    return word in _SHORT_UNITS or (len(word) >= 3 and word.isascii() and word.lower() not in _NO_UNITS)
