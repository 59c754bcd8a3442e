"""Cut a thinking into lines and normalise them, so that equal steps of different queries are equal texts.

`She loans 3, so subtract 6: 55 - 6 = 49.` becomes `loans #, so subtract #double: =`. Lines end at line breaks and at
the ends of sentences. Case is folded; subjects, linking words at the start of a line and the proper names of the query
are dropped; an equation becomes `=`, because `memstore_gnn.features.equations` recomputes it. A number is written
relative to the first number of its line: `#` for the first, then `#same`, `#double`, `#half` or `#any`.

Texts may be hostile: all quantifiers are possessive, and characters, lines and the length of a line are limited.
"""

from __future__ import annotations

import re
from functools import lru_cache

LIMIT = 6000
"""Characters read: the last ones of a thinking, the first ones of a query."""
MAX_LINES = 64
"""Distinct lines read in one text, the last ones."""
MAX_LENGTH = 240
"""Characters of a line that are read, from its start."""

_BREAK = re.compile(r"\n|(?<=[.!?;])\s")
_NAME = re.compile(r"(?<=[a-z0-9,] )[A-Z][a-z]++")
_CAPITAL = re.compile(r"\b[A-Z][a-z]++(?:['’]s\b)?+")
_OPENING = re.compile(r"(?:(?:and|so|then|next|first|finally|therefore|thus|now|he|she|they|it|we|i|you)\b[ ,:]*+)++")
_NUMBER = re.compile(r"\d++(?:[.,]\d++)*+")
_TERM = r"[$€£(]?+#[a-z]*+[%)]?+"
_EQUATION = re.compile(rf"{_TERM}(?: ?+[-+*/x×÷] ?+{_TERM})++ ?+= ?+{_TERM}")
_BLANK = re.compile(r"\s++")
_LETTERS = re.compile(r"[^\W\d_]{2}")


def names_of(query: str) -> frozenset[str]:
    """Proper names in a query: capitalised words that do not begin a sentence."""
    return frozenset(_NAME.findall(query[:LIMIT]))


def step_lines(thinking: str, names: frozenset[str]) -> list[str]:
    """The distinct normalised lines of a thinking, in their order; lines without a word are left out.

    Args:
        names: proper names that are dropped, see `names_of`.
    """
    found: dict[str, None] = {}
    for line in _BREAK.split(thinking[-LIMIT:]):
        made = _normalised(_without(line[:MAX_LENGTH], names))
        if made:
            found[made] = None
    return list(found)[-MAX_LINES:]


def _without(line: str, names: frozenset[str]) -> str:
    if not names:
        return line
    return _CAPITAL.sub(lambda word: "" if word[0].partition("'")[0].partition("’")[0] in names else word[0], line)


@lru_cache(maxsize=2**16)
def _normalised(line: str) -> str:
    """A line without names in its normal form; "" for a line without a word. Cached, because groups repeat lines."""
    text = _BLANK.sub(" ", line.lower()).strip(" .,:;!?*_#-")
    text = _OPENING.sub("", text, count=1) if _OPENING.match(text) else text
    first: float | None = None

    def relative(number: re.Match[str]) -> str:
        nonlocal first
        value = _value(number[0])
        if first is None:
            first = value
            return "#"
        return _relation(value, first)

    text = _EQUATION.sub("=", _NUMBER.sub(relative, text.replace("#", "")))
    return text if _LETTERS.search(text) else ""


def _value(number: str) -> float:
    plain = number.replace(",", "")
    return float(plain) if plain.count(".") < 2 else float("nan")


def _relation(value: float, first: float) -> str:
    if value == first:
        return "#same"
    if value == 2 * first:
        return "#double"
    return "#half" if 2 * value == first else "#any"
