"""How a thinking is worded: doubt, conclusion, the options it weighs, how it ends, how much it repeats itself.

Counts of plain substrings and of possessive patterns in the last `LIMIT` characters. English, as the sets are; in
another language the columns are constant and say nothing.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

LIMIT = 4000

_DOUBT = re.compile(
    r"\b(?:perhaps|maybe|might|could be|not sure|unclear|unsure|possibly|assum|approximately|seems|i think|wait"
    r"|however|actually|probably|cannot|can't|don't know|unknown|not possible|none of)"
)
_CONCLUSION = re.compile(
    r"\b(?:therefore|thus|hence|so the|in total|final answer|the answer is|in conclusion|as a result)\b"
)
_OPTION = re.compile(r"\(([a-j])\)|\b(?:option|choice) ([a-j])\b|(?:^|\n)([a-j])[).:]")
_MARKUP = re.compile(r"\*\*|\\\(|\\\[|\\boxed|\\frac|```|<<|^#|\n#|\n[-*] |\n\d++\. ")
_ENDS = (".", "!", "?", ")", "]", "}", "$", "`", "*", ">")

NAMES = (
    "doubt",
    "conclusion",
    "markup",
    "options_named",
    "option_last",
    "option_share",
    "ends",
    "repetition",
    "words_per_line",
    "first_person",
    "query_words",
)


def wording_of(thinking: str, value: str, query_words: frozenset[str]) -> tuple[float, ...]:
    """The numbers of `NAMES` for one rollout; all 0 for a blank thinking.

    Args:
        value: the canonical answer; a single letter where it is an option.
        query_words: of the query, lower case.
    """
    text = thinking[-LIMIT:]
    low = text.lower()
    words = low.split()
    if not words:
        return (0.0,) * len(NAMES)
    named = [a or b or c for a, b, c in _OPTION.findall(low)]
    chosen = value.lower() if len(value) == 1 and value.isalpha() else ""
    lines = text.count("\n") + 1
    return (
        len(_DOUBT.findall(low)) / len(words) ** 0.5,
        len(_CONCLUSION.findall(low)) / len(words) ** 0.5,
        len(_MARKUP.findall(text)) / len(words) ** 0.5,
        float(len(set(named))),
        float(bool(named) and named[-1] == chosen),
        named.count(chosen) / len(named) if named else 0.0,
        float(text.rstrip().endswith(_ENDS)),
        1.0 - len(zlib.compress(text.encode("utf-8", "replace"), 1)) / max(len(text.encode("utf-8", "replace")), 64),
        float(np.log1p(len(words) / lines)),
        (low.count(" i ") + low.count(" we ") + low.count("let's")) / len(words) ** 0.5,
        len(query_words.intersection(words)) / max(len(query_words), 1),
    )


def wording_columns(
    thinkings: list[str], values: list[str], queries: list[str], query: list[int]
) -> dict[str, NDArray[Any]]:
    """`wording_of` for every rollout, as columns."""
    words = [frozenset(text[-LIMIT:].lower().split()) for text in queries]
    rows = [wording_of(t, v, words[q]) for t, v, q in zip(thinkings, values, query, strict=True)]
    table = np.array(rows, np.float64).reshape(len(rows), len(NAMES))
    return {name: table[:, i] for i, name in enumerate(NAMES)}
