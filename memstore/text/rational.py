"""Evaluate arithmetic expressions exactly: a recursive-descent parser over LaTeX tokens with rational numbers.

The grammar has numbers, + - * / ^, brackets, fractions, mixed numbers and roots of perfect squares. `evaluate` returns
None for everything else: letters, products without an operator, numbers of more than about 1,200 digits.
"""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

_MAX_TOKENS = 300
_MAX_DEPTH = 40
"""Nested brackets; bounds recursion."""
_MAX_BITS = 4_000
"""Bits of a numerator or denominator, about 1,200 decimal digits; bounds the time of powers."""
_MAX_DECIMALS = 12
"""Decimal places up to which a terminating decimal is written as a decimal instead of a fraction."""
_FLOAT_DIGITS = 12
"""Significant digits from which a decimal is taken for a printed float, which is rounded."""
_DOUBLE_DIGITS = (15, 16, 17)
"""Significant digits of a printed double with a rounding error, such as 0.30000000000000004."""
_FLOAT_DENOMINATOR = 10_000
"""Largest denominator of the fraction that a printed float is taken for."""
_CLOSING = {"(": ")", "{": "}"}
_PRODUCT = frozenset(["*", "/", "\\times", "\\div"])


class _NotANumberError(Exception):
    pass


def evaluate(parts: list[str]) -> Fraction | None:
    """Return the value of a tokenised expression, or None if it is not a rational number within the limits."""
    if not 0 < len(parts) <= _MAX_TOKENS or sum(map(len, parts)) > _MAX_BITS // 3:
        return None
    parser = _Parser(parts)
    try:
        value = parser.sum_of_terms()
    except (_NotANumberError, ZeroDivisionError):
        return None
    return value if parser.at == len(parser.parts) else None


def format_rational(value: Fraction) -> str:
    """Format a rational as 18, 0.5 or -1/3: as a decimal if it terminates within 12 places, else as a fraction."""
    if value.denominator == 1:
        return str(value.numerator)
    scaled = value * 10**_MAX_DECIMALS
    if scaled.denominator != 1:
        return f"{value.numerator}/{value.denominator}"
    digits = str(abs(scaled.numerator)).rjust(_MAX_DECIMALS + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-_MAX_DECIMALS]}.{digits[-_MAX_DECIMALS:].rstrip('0')}"


def decimal_value(digits: str) -> Fraction:
    """Return the value of a decimal; a printed float such as 0.3333333333333333 is the fraction that it rounds.

    A decimal of at least `_FLOAT_DIGITS` significant digits is replaced by a fraction with a small denominator if they
    differ by less than one unit in its last place, or by
    the rounding error of a double. Exact arithmetic would keep 1/3 and the float of 1/3 apart.
    """
    value = Fraction(digits)
    decimals = digits.partition(".")[2]
    significant = len(digits.replace(".", "").lstrip("0"))
    if not decimals or significant < _FLOAT_DIGITS:
        return value
    near = value.limit_denominator(_FLOAT_DENOMINATOR)
    rounding = value / 2**51 if significant in _DOUBLE_DIGITS else Fraction(0)
    difference = abs(near - value)
    return near if difference < Fraction(1, 10 ** len(decimals)) or difference <= rounding else value


class _Parser:
    """Recursive-descent parser; `at` is the index of the next token."""

    def __init__(self, parts: list[str]) -> None:
        self.parts = parts
        self.at = 0
        self.depth = 0

    def peek(self) -> str:
        return self.parts[self.at] if self.at < len(self.parts) else ""

    def take(self, expected: str | None = None) -> str:
        part = self.peek()
        if not part or (expected is not None and part != expected):
            raise _NotANumberError
        self.at += 1
        return part

    def sum_of_terms(self) -> Fraction:
        value = self.term()
        while self.peek() in ("+", "-"):
            plus = self.take() == "+"
            term = self.term()
            value = _bounded(value + term if plus else value - term)
        return value

    def term(self) -> Fraction:
        value = self.factor()
        while self.peek() in _PRODUCT:
            divide = self.take() in ("/", "\\div")
            factor = self.factor()
            value = _bounded(value / factor if divide else value * factor)
        return value

    def factor(self) -> Fraction:
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        return sign * self.power()

    def power(self) -> Fraction:
        base = self.atom()
        if self.peek() != "^":
            return base
        self.take()
        sign = -1 if self.peek() == "-" else 1
        if sign < 0:
            self.take()
        return _power(base, sign * self.atom())

    def atom(self) -> Fraction:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NotANumberError
        part = self.take()
        if part in _CLOSING:
            value = self.sum_of_terms()
            self.take(_CLOSING[part])
        elif part == "\\frac":
            value = _bounded(self.argument() / self.argument())
        elif part == "\\sqrt":
            value = _root(self.argument())
        else:
            value = _number(part)
            if self.peek() == "\\frac" and value.denominator == 1 and part[0].isdigit():
                value += self.mixed_part()
        self.depth -= 1
        return value

    def argument(self) -> Fraction:
        """The argument of a command: a group in braces, or a single digit."""
        part = self.peek()
        if part == "{":
            return self.atom()
        self.take()
        if len(part) > 1:
            self.at -= 1
            self.parts = [*self.parts[: self.at], part[0], part[1:], *self.parts[self.at + 1 :]]
            self.at += 1
        return _number(part[0])

    def mixed_part(self) -> Fraction:
        r"""The fraction of a mixed number such as `3\frac{1}{2}`, between 0 and 1."""
        value = self.atom()
        if not 0 < value < 1:
            raise _NotANumberError
        return value


def _number(part: str) -> Fraction:
    digits = part.replace(",", "")
    if not digits.isascii() or not digits.replace(".", "", 1).isdigit():
        raise _NotANumberError
    return decimal_value(digits)


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _NotANumberError
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or (base == 0 and exponent <= 0):
        raise _NotANumberError
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) * bits > _MAX_BITS:
        raise _NotANumberError
    return base ** int(exponent)


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise _NotANumberError
    root = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if root * root != value:
        raise _NotANumberError
    return root
