"""Wording features of a thinking: words of doubt and conclusion, options named, ending, repetition.

Substrings and patterns are counted in the last `LIMIT` characters. The words are English; in other languages the
columns are constant.

`wording_of` computes one rollout in Python. Columns of ASCII texts are counted by Arrow's RE2, which is ten times as
fast and gives the same counts. Arrow searches the rest of the text after a match, where `^` and a leading `\\b` would
match wrongly. So its patterns start with the character before a word, and the texts with a space.
"""

from __future__ import annotations

import math
import re
import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

LIMIT = 4000
"""Characters searched, from the end of the text."""

_DOUBTS = (
    r"(?:perhaps|maybe|might|could be|not sure|unclear|unsure|possibly|assum|approximately|seems|i think|wait"
    r"|however|actually|probably|cannot|can't|don't know|unknown|not possible|none of)"
)
_CONCLUSIONS = r"(?:therefore|thus|hence|so the|in total|final answer|the answer is|in conclusion|as a result)\b"
_MARKS = r"\*\*|\\\(|\\\[|\\boxed|\\frac|```|<<|\n#|\n[-*] |\n\d+\. "
_OPTIONS = r"\(([a-j])\)|\b(?:option|choice) ([a-j])\b|(?:^|\n)([a-j])[).:]"
_DOUBT, _CONCLUSION = re.compile(r"\b" + _DOUBTS), re.compile(r"\b" + _CONCLUSIONS)
_MARKUP, _OPTION = re.compile(_MARKS.replace(r"\d+", r"\d++")), re.compile(_OPTIONS)
_BEFORE = "[^a-z0-9_]"
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
    """Compute the features `NAMES` of one rollout; all 0 for a blank thinking.

    Args:
        value: the canonical answer; a single letter if it is an option.
        query_words: the words of the query, in lower case.
    """
    text = thinking[-LIMIT:]
    low = text.lower()
    marks = len(_MARKUP.findall(text)) + text.startswith("#")
    return _numbers(
        text, low, value, query_words, (len(_DOUBT.findall(low)), len(_CONCLUSION.findall(low)), marks), True
    )


def _numbers(
    text: str, low: str, value: str, query_words: frozenset[str], counts: tuple[int, int, int], options: bool
) -> tuple[float, ...]:
    """Combine the counts into features; `options` is False if no option is named."""
    words = low.split()
    if not words:
        return (0.0,) * len(NAMES)
    named = [a or b or c for a, b, c in _OPTION.findall(low)] if options else []
    chosen = value.lower() if len(value) == 1 and value.isalpha() else ""
    root = len(words) ** 0.5
    encoded = text.encode("utf-8", "replace")
    return (
        counts[0] / root,
        counts[1] / root,
        counts[2] / root,
        float(len(set(named))),
        float(bool(named) and named[-1] == chosen),
        named.count(chosen) / len(named) if named else 0.0,
        float(text.rstrip().endswith(_ENDS)),
        1.0 - len(zlib.compress(encoded, 1)) / max(len(encoded), 64),
        math.log1p(len(words) / (text.count("\n") + 1)),
        (low.count(" i ") + low.count(" we ") + low.count("let's")) / root,
        len(query_words.intersection(words)) / max(len(query_words), 1),
    )


def wording_columns(
    thinkings: list[str], values: list[str], queries: list[str], query: list[int]
) -> dict[str, NDArray[Any]]:
    """`wording_of` for every rollout, as columns."""
    asked = [frozenset(text[-LIMIT:].lower().split()) for text in queries]
    plain = [row for row, text in enumerate(thinkings) if text.isascii()]
    texts = [thinkings[row][-LIMIT:] for row in plain]
    lows = [text.lower() for text in texts]
    counts = zip(*_counted(texts, lows), strict=True)
    options = pc.match_substring_regex(pa.array(lows, pa.string()), _OPTIONS).to_pylist()
    table = np.zeros((len(thinkings), len(NAMES)))
    for row, text, low, count, option in zip(plain, texts, lows, counts, options, strict=True):
        table[row] = _numbers(text, low, values[row], asked[query[row]], count, option)
    for row in set(range(len(thinkings))).difference(plain):
        table[row] = wording_of(thinkings[row], values[row], asked[query[row]])
    return {name: table[:, i] for i, name in enumerate(NAMES)}


def _counted(texts: list[str], lows: list[str]) -> tuple[list[int], list[int], list[int]]:
    """Counts of doubts, conclusions and marks in ASCII texts."""
    spaced = pa.array([" " + low for low in lows], pa.string())
    written = pa.array(texts, pa.string())
    marks = pc.add(pc.count_substring_regex(written, _MARKS), pc.cast(pc.starts_with(written, "#"), pa.int32()))
    doubts, conclusions = (pc.count_substring_regex(spaced, _BEFORE + words) for words in (_DOUBTS, _CONCLUSIONS))
    return doubts.to_pylist(), conclusions.to_pylist(), marks.to_pylist()
