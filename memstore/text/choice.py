"""Multiple choice: parse the lettered options of a query and the letter that an answer names.

Options are a sequence A, B, C... of lines such as "(A) text", "A) text" or "A. text", or inline as "(A) text (B) text
(C) text". If there are several sequences (worked examples before the question), the last one is used. An answer names
an option by its letter or by the option's text. An answer that names several options, such as "B or E", has no letter
and is compared as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from memstore.text.plain import fold

_LINE = re.compile(r"^[ \t*]*+[(\[]?([A-Z])[)\].:]\**+[ \t]++(\S.*)$", re.M)
_INLINE = re.compile(r"(?<![\w(\[])[(\[]?([A-Z])[)\]]\s++")
_CACHED_LENGTH = 20_000
"""Characters; the options of longer queries are not cached."""
_MIN_LINES, _MIN_INLINE = 2, 3
"""Options a sequence needs. Two inline letters may be points of a figure: "(A) and (B) lie on a line"."""

_BRACKETED = re.compile(r"(?<![\w}\\])[(\[]([A-Z])[)\]](?!\w)")
_HALF_BRACKETED = re.compile(r"(?:^|(?<=\s))([A-Z])\)(?!\w)")
_ANY_BRACKETED = re.compile(r"(?<![\w}\\])(?:[(\[]|(?:^|(?<=\s)))([A-Za-z])[)\]](?!\w)")
_LISTED = re.compile(r"[(\[{]\s*+([A-Z](?:\s*+(?:,|/|&|and\b|or\b)(?:\s++(?:and|or)\b)?\s*+[A-Z])++)\s*+[)\]}]")
"""Several letters in one pair of brackets: "(A, C and F)"."""
_BARE = re.compile(r"(?<![\w'’.(\-])([A-Z])(?=[,;:*\s]|\.(?!\w)|$)(?!\s++(?!(?i:and)\b)[A-Za-z]{3})")
"""A single capital, unless a word follows: "A new idea", "I think"."""
_NAMES = re.compile(r"(?:option|choice|answer|is|be|:)[\s*]++$", re.I)
_LEAD = re.compile(
    r"[\s*_\"'(\[{]*+(?:(?:option|choice|answer)\s++)?[(\[{]*+([A-Za-z])(?P<close>[)\]}.:,]++|(?=\s|$))[\s*_\"')\]}]*+",
    re.I,
)
_MARKUP = re.compile(r"\\(?:boxed|text|textbf|mathrm|mathbf)(?![A-Za-z])|[*$`]")
_FEW_WORDS = 6
"""In an answer of at most this many words, any single capital counts as a letter."""
_READ_LIMIT = 1_000
"""Characters of an answer that are searched for its letter."""

_YES_NO = re.compile(r"[\s*_\"'`(]*+(yes|no|true|false)(?![\w'’])(?=\s*+(?:$|[.,;:!?)*—–-]))", re.I)


class Options(NamedTuple):
    """The options of a query."""

    texts: Mapping[str, str]
    """Letter -> text; empty if the query has no options."""
    folded: Mapping[str, str]
    """Letter -> normalised text, which answers are compared with."""


def options(query: str) -> Options:
    """Return the lettered options of `query`.

    Example:
        options("Which?\\n(A) red\\n(B) blue").texts == {"A": "red", "B": "blue"}
    """
    return _cached_options(query) if len(query) <= _CACHED_LENGTH else _folded_options(query)


def _folded_options(query: str) -> Options:
    texts = _read_options(query)
    return Options(texts, {letter: fold(_MARKUP.sub(" ", text)) for letter, text in texts.items()})


_cached_options = lru_cache(maxsize=512)(_folded_options)


def _read_options(query: str) -> Mapping[str, str]:
    lines = _last_run((match[1], match[2]) for match in _LINE.finditer(query))
    if len(lines) >= _MIN_LINES:
        return lines
    marks = list(_INLINE.finditer(query))
    ends = [match.start() for match in marks[1:]] + [len(query)]
    texts = [query[match.end() : end].partition("\n")[0] for match, end in zip(marks, ends[: len(marks)], strict=True)]
    inline = _last_run(zip((match[1] for match in marks), texts, strict=True))
    return inline if len(inline) >= _MIN_INLINE else {}


def _last_run(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The last sequence of letters that starts at A without a gap."""
    run: dict[str, str] = {}
    for letter, text in pairs:
        if letter == "A":
            run = {}
        if ord(letter) == ord("A") + len(run):
            run[letter] = text.strip(" \t*,;")
    return run


def bracketed_letters(text: str) -> list[re.Match[str]]:
    """Find letters in brackets, such as "(B)"."""
    return list(_BRACKETED.finditer(text))


def announced_letters(text: str) -> list[re.Match[str]]:
    """Find letters that follow a word such as "option" or "is": "option B", "the best is B"."""
    return [match for match in _BARE.finditer(text) if _NAMES.search(text[max(0, match.start() - 12) : match.start()])]


def leads_with_letter(text: str) -> bool:
    """Return whether `text` starts like an option: "B", "B) text", "(B) text", "B. text"."""
    lead = _LEAD.match(text)
    return lead is not None and lead[1].isupper() and bool(lead["close"] or lead.end() == len(text))


def named_letter(answer: str, offered: Options) -> str:
    """Return the letter of the single option that `answer` names, or "" if it names none or several."""
    plain = _MARKUP.sub(" ", answer[:_READ_LIMIT])
    lead = _LEAD.match(plain)
    letter = lead[1].upper() if lead else ""
    rest = fold(plain[lead.end() :]) if lead else ""
    bare = lead is not None and not rest.strip(".")
    if bare and letter in offered.texts:
        return letter
    folded = fold(plain)
    same = [key for key, text in offered.folded.items() if text == folded]
    if len(same) == 1:
        return same[0]
    if lead and bare and lead[1].isupper():
        return letter
    mentioned = _mentioned(plain)
    text = offered.folded.get(letter, "")
    if lead and text and (rest == text or (lead["close"] and _continues(rest, text, plain, mentioned | {letter}))):
        return letter
    return mentioned.pop() if len(mentioned) == 1 else ""


def _continues(rest: str, option: str, plain: str, mentioned: set[str]) -> bool:
    """Whether the text after a letter is a prefix or an extension of its option, and no other letter is mentioned."""
    mentioned = mentioned | {match[1].upper() for match in _ANY_BRACKETED.finditer(plain)}
    return len(mentioned) == 1 and len(rest) > 2 and (option.startswith(rest) or rest.startswith(option))


def _mentioned(plain: str) -> set[str]:
    """The letters that an answer mentions: those in brackets, or otherwise single capitals used as letters."""
    found = {match[1] for pattern in (_BRACKETED, _HALF_BRACKETED) for match in pattern.finditer(plain)}
    found.update(letter for match in _LISTED.finditer(plain) for letter in match[1] if letter.isupper())
    if found:
        return found
    few = len(plain.split(maxsplit=_FEW_WORDS)) <= _FEW_WORDS
    return {match[1] for match in (_BARE.finditer(plain) if few else announced_letters(plain))}


def yes_or_no(answer: str) -> str:
    """Return yes, no, true or false if `answer` starts with that word on its own, otherwise ""."""
    match = _YES_NO.match(answer)
    return match[1].lower() if match else ""
