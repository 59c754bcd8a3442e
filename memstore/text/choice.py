"""Multiple choice: parse the lettered options of a query and the letter that an answer names.

Options are a sequence A, B, C... of lines such as "(A) text", "A) text" or "A. text", or inline as "(A) text (B) text
(C) text". The letters may be small, full-width or in LaTeX, and the blank may be missing. If there are several
sequences (worked examples before the question), the last one is used. An answer names an option by its letter, by the
option's text or by its number. An answer that names several options, such as "B or E", has no letter and is compared as
text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from memstore.text.characters import to_ascii
from memstore.text.maths import canonical as mathematical_value
from memstore.text.maths import is_number
from memstore.text.plain import fold

_LINE = re.compile(
    r"^[ \t*]*+[(\[]?([A-Za-z])(?:[)\]]\**+[ \t]*+|[.:]\**+(?:[ \t]++|(?=[^\x00-\x7f])|(?<=\.)(?=[0-9$-])))(\S.*)$",
    re.M,
)
_INLINE = re.compile(r"(?<![\w(\[\\{}^_=+/-])([(\[]?)([A-Za-z])[)\]](?:\s++|(?=[^\s,.;:)\]}=+*/^-]))")
_LETTER = r"([(\[]?[A-Z][)\].:]?)(?:\s|\\[ ,;])*+"
_LATEX_LETTER = re.compile(
    rf"\\(?:text|math)(?:bf|rm|sf)\s*+\{{\s*+{_LETTER}\}}|\\text\s*+\{{\s*+{_LETTER}\}}|\{{\\bf\s*+{_LETTER}\}}"
)
_LATEX_SPACE = re.compile(r"\\(?:q?quad(?![A-Za-z])|hspace\*?\{[^{}]*+\}|[ ,;:!])|~")
_CACHED_LENGTH = 20_000
"""Characters; the options of longer queries are not cached."""
_MIN_LINES, _MIN_INLINE = 2, 3
"""Options a sequence needs. Two inline letters may be points of a figure: "(A) and (B) lie on a line"."""

_BRACKETED = re.compile(r"(?<![\w}\\])[(\[]([A-Z])[)\]](?!\w)")
_HALF_BRACKETED = re.compile(r"(?:^|(?<=\s))([A-Z])\)(?!\w)")
_ANY_BRACKETED = re.compile(r"(?<![\w}\\])(?:[(\[]|(?:^|(?<=\s)))([A-Za-z])[)\]](?!\w)")
_LISTED = re.compile(r"[(\[{]\s*+([A-Z](?:\s*+(?:,|/|&|and\b|or\b)(?:\s++(?:and|or)\b)?\s*+[A-Z])++)\s*+[)\]}]")
"""Several letters in one pair of brackets: "(A, C and F)"."""
_CJK = "\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3"
_REASON = r"(?i:because|since|as|whereas|although|though|rather|instead|not|which|due)\b"
_LOOSE_REASON = r"(?i:for|is|given|so|it|this|that|these|while|where|with|by|the)\b"
_BARE = re.compile(
    rf"(?<![^\W{_CJK}])(?<!['’.(\-/])([A-Z])(?=[,;:*\s]|\.(?!\w)|$|[{_CJK}])(?!\s++(?!(?i:and)\b|{_REASON})[A-Za-z]{{3}})"
)
"""A single capital, unless a word follows: "A new idea", "I think". A reason may follow: "B because"."""
_NAMES = re.compile(
    r"(?:option|choice|answer|is|be|:|choose|chose|chosen|pick|picked|select|selected|go with|going with"
    r"|答案|是|为|選|选|选择|選擇|故选|正解は|答えは|정답은)[\s*:]*+$",
    re.I,
)
_LEAD = re.compile(
    r"[\s*_\"'(\[{<>]*+(?:(?:option|choice|answer)\s++)?[(\[{<]*+([A-Za-z])"
    r"(?P<close>[)\]}>.:,]++|(?=[\s*_\"'`]|$))[\s*_\"')\]}>]*+",
    re.I,
)
_CONFIRMED = r"(?i:is\s++(?:the\s++)?(?:correct|right|best|answer))\b"
_IS_CORRECT = re.compile(rf"\s+{_CONFIRMED}")
_STRONG_REASON = re.compile(rf"[\s*_\"')\]}}>]*+(?:[,;:.(-]\s*+)?(?:but\s++not\b|{_REASON}|{_CONFIRMED})|\s+-\s+\w")
_LEAD_REASON = re.compile(rf"[\s*_\"')\]}}>]*+(?:(?:[,;:.(-]\s*+)?{_REASON}|[,;:.(-]\s*+{_LOOSE_REASON})")
"""What follows a letter when the sentence goes on with a reason: "B because", "B, not C"."""
_TEXT_REASON = re.compile(rf"[,;]?\s++{_REASON}")
"""What follows the text of an option when the sentence goes on with a reason: "sugar, because it is sweet"."""
_ALTERNATIVE = re.compile(
    r"[,;.]\s*+(?:or|but|and)\s++(?:it\s++\w++\s++(?:also\s++)?be\s++|also\s++|perhaps\s++|maybe\s++|possibly\s++)?"
    r"(?:option\s++)?[(\[]?[A-Z](?![\w'’])"
)
"""A second letter offered after the first: "B, or perhaps C"."""
_SECOND = re.compile(r"\b(?:and|or)\s++[(\[][A-Z][)\]]\s++(?:for|is|are)\b")
"""A second letter beside the first: "(B) for the first and (C) for the second"."""
_OTHER_CHOICE = re.compile(r"[\s,]*+(?:(?:and|or|nor)\b|[&/或和与及])", re.I)
_MARKUP = re.compile(
    r"\\(?:boxed|fbox|text|textbf|textit|textrm|mathrm|mathbf|mathit|bf)(?![A-Za-z])|[*$`«»“”‘’「」『』《》]"
)
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
    texts = _read_options(_plain_query(query))
    return Options(texts, {letter: fold(_MARKUP.sub(" ", text)) for letter, text in texts.items()})


_cached_options = lru_cache(maxsize=512)(_folded_options)


def _plain_query(query: str) -> str:
    r"""A query with ASCII letters and brackets, and without LaTeX around its letters: `\textbf{(A)}\ 1 \qquad`."""
    query = to_ascii(query.replace("、", ") "))
    letter = _LATEX_LETTER.search(query) if "\\" in query else None
    if letter:
        options_part = query[letter.start() :].replace("$", " ")
        options_part = _LATEX_SPACE.sub(
            " ", _LATEX_LETTER.sub(lambda match: f"{match[1] or match[2] or match[3]} ", options_part)
        )
        query = query[: letter.start()] + options_part
    return query


def _read_options(query: str) -> Mapping[str, str]:
    lines = _last_run((match[1], match[2]) for match in _LINE.finditer(query))
    if len(lines) >= _MIN_LINES:
        return lines
    marks = list(_INLINE.finditer(query))
    ends = [match.start() for match in marks[1:]] + [len(query)]
    texts = [query[match.end() : end].partition("\n")[0] for match, end in zip(marks, ends[: len(marks)], strict=True)]
    inline = _last_run(zip((match[2] for match in marks), texts, strict=True))
    return inline if len(inline) >= _MIN_INLINE else {}


def _last_run(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The last sequence of letters of one case that starts at A without a gap; the letters in upper case."""
    run: dict[str, str] = {}
    first = ""
    for letter, text in pairs:
        if letter in "Aa":
            run, first = {}, letter
        if first and ord(letter) == ord(first) + len(run):
            run[letter.upper()] = _option_text(text)
    return run if all(run.values()) else {}


def _option_text(text: str) -> str:
    """The text of an option without the punctuation of the list that it stands in: `'A)21', 'B)22'`."""
    text = text.strip(" \t*,;")
    if text.endswith(("',", "'", "']")) and "'" not in text.rstrip("',] "):
        text = text.rstrip("',] ")
    return text


def bracketed_letters(text: str) -> list[re.Match[str]]:
    """Find letters in brackets, such as "(B)"."""
    return list(_BRACKETED.finditer(text))


def announced_letters(text: str) -> list[re.Match[str]]:
    """Find letters beside words that name a choice: "option B", "the best is B", "B is correct"."""
    return [
        match
        for match in _BARE.finditer(text)
        if _NAMES.search(text[max(0, match.start() - 12) : match.start()]) or _IS_CORRECT.match(text, match.end())
    ]


def leads_with_letter(text: str) -> bool:
    """Return whether `text` starts like an option: "B", "B) text", "(B) text", "B. text"."""
    lead = _LEAD.match(text := to_ascii(text))
    return lead is not None and lead[1].isupper() and bool(lead["close"] or lead.end() == len(text))


def named_letter(answer: str, offered: Options) -> str:
    """Return the letter of the single option that `answer` names, or "" if it names none or several."""
    plain = _MARKUP.sub(" ", to_ascii(answer[:_READ_LIMIT]))
    lead = _LEAD.match(plain)
    letter = lead[1].upper() if lead else ""
    rest = fold(plain[lead.end() :]) if lead else ""
    bare = lead is not None and not rest.strip(".")
    if bare and letter in offered.texts:
        return letter
    same = _with_text(plain, offered)
    if same:
        return same
    if lead and bare and lead[1].isupper():
        return letter
    mentioned = _mentioned(plain)
    text = offered.folded.get(letter, "")
    if lead and text and (rest == text or (lead["close"] and _continues(rest, text, plain, mentioned | {letter}))):
        return letter
    if lead and letter in offered.texts and _gives_reason(lead, plain, text):
        return letter
    if lead and lead[1].isupper() and "," in lead["close"] and letter not in mentioned:
        return ""  # "B, but it could also be C"
    return mentioned.pop() if len(mentioned) == 1 else ""


def _with_text(plain: str, offered: Options) -> str:
    """The letter of the only option with the text of `plain`, or with the same number."""
    folded = fold(plain)
    same = [key for key, text in offered.folded.items() if text == folded]
    if not same:
        same = [
            key
            for key, text in offered.folded.items()
            if len(text) > 2 and folded.startswith(text) and _TEXT_REASON.match(folded, len(text))
        ]
    if not same and is_number(plain):
        value = mathematical_value(plain)
        same = [key for key, text in offered.texts.items() if is_number(text) and mathematical_value(text) == value]
    return same[0] if len(same) == 1 else ""


def _gives_reason(lead: re.Match[str], plain: str, option: str) -> bool:
    """Whether a capital at the start, perhaps with its option, is followed by a reason: "B because sugar is sweet"."""
    if not lead[1].isupper() or _OTHER_CHOICE.match(plain, lead.end(1)):
        return False
    behind = plain[lead.end(1) :]
    if _STRONG_REASON.match(behind):
        return not _ALTERNATIVE.search(behind)
    if _LEAD_REASON.match(behind):
        return not (_ALTERNATIVE.search(behind) or _SECOND.search(behind))
    rest = fold(plain[lead.end() :])
    after = rest[len(option) :] if option and rest.startswith(option) else ""
    return bool(lead["close"] and after and _LEAD_REASON.match(after))


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
