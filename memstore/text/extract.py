r"""Where a response states its answer.

Markers, the first that is there wins, and of several of one kind the last:

    <answer>...</answer>                             every domain
    a fenced block, else a function body             code
    \boxed{...}, with balanced braces                math, qa, other
    #### ...                                         math, qa
    A: ... on the last line                          math, qa, other
    the answer is ..., Answer: ...                   math, qa; other: where nothing follows it
    no marker: a lettered option near the end (qa); the last number of the last lines (math); all of it (code, other)

A marker counts only if something that may be an answer stands behind it. Each search is linear in the text.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from memstore.text.choice import announced_letters, bracketed_letters, leads_with_letter, yes_or_no
from memstore.text.fences import answer_block
from memstore.text.latex import last_boxed
from memstore.types import Domain


class Found(NamedTuple):
    """An answer in a text."""

    start: int
    """Where the words that introduce it begin; the thinking ends there."""
    end: int
    """Where the statement of it ends."""
    answer: str


_TAG, _END_TAG = "<answer>", "</answer>"
_HASHES = re.compile(r"####[ \t]*+(?!#)([^\n]*+)")
_HEADING = re.compile(r"(?:\d+[.)]\s|\*\*)?\s*+[A-Za-z]{2}")
_LAST_LINE = re.compile(r"[\s*_>]*+(?:A|Ans)[\s*_]*+[:：][\s*_]*+", re.I)
_ANSWER = re.compile(r"\b(?:answers?|(?:correct|right|best)\s(?:option|choice|statement))\b", re.I)
_IS = re.compile(
    r"(?:\s++(?:choice|option|here|therefore|then|thus|to\s++(?:the|this)\s++(?:question|problem)))?+"
    r"[\s*_]*+(?:(?:is|are|was|be|(?:would|should|must|will|could|may|might)\s++be)\b(?!\s*+(?:in)?correct\b)|[:：=])"
    r"(?:[\s*_:：]++|\$\$|\\\[|(?:therefore|thus|indeed|then|likely|probably|most\s++likely|to\s++be|option|choice)\b)*+",
    re.I,
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s*_\"”]|$)|\n|$")
_LEAD_WORDS = frozenset(
    [
        "so", "thus", "therefore", "hence", "and", "then", "finally", "overall", "the", "this", "final", "best",
        "correct", "right", "most", "appropriate", "likely", "accurate", "my", "our", "your", "conclusion",
        "in", "is", "be", "answer", "answers", "option",
    ]
)  # fmt: skip
_LEAD_REACH = 100
_TRIES = 20
_MARKED_ANSWER = 400
"""Characters of what stands behind a marker that may be an answer."""
_SHORT = 200
"""Characters of a last line that may be nothing but an answer."""
_BRIEF, _BRIEF_WORDS = 80, 8
"""A response of one line no longer than this is an answer without a thinking."""
_TAIL = 1_000
"""Characters at the end of a response in which an unmarked answer is looked for."""

_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])-\s?)?[$£€]?\\?\$?(?:\d{1,3}+(?:,\d{3})++(?!\d)|\d++)(?:\.\d++)?+(?:/\d++(?:\.\d++)?+)?+(?:\s?\\?%)?+"
)


def find_answer(text: str, domain: Domain) -> Found | None:
    """The answer that `text` states, None where it states none."""
    found = marked_answer(text, domain)
    if found is not None:
        return found
    if domain == "code":
        return _function_body(text)
    if domain == "other":
        return Found(0, len(text), text.strip()) if text.strip() else None
    return _whole_line(text, domain) or (_last_letter(text) if domain == "qa" else _last_number(text))


def marked_answer(text: str, domain: Domain) -> Found | None:
    """The answer behind a marker of `domain`."""
    found = _tagged(text)
    if found is not None:
        return found
    if domain == "code":
        block = answer_block(text)
        return Found(*block) if block else None
    hashes = _after_hashes(text, domain) if domain != "other" else None
    return _boxed(text) or hashes or _on_last_line(text, domain) or _after_answer_is(text, domain)


def _tagged(text: str) -> Found | None:
    start = text.rfind(_TAG)
    if start < 0:
        return None
    end = text.find(_END_TAG, start)
    inner = text[start + len(_TAG) : end if end >= 0 else len(text)].strip()
    return Found(start, end + len(_END_TAG) if end >= 0 else len(text), inner) if inner else None


def _boxed(text: str) -> Found | None:
    box = last_boxed(text)
    if box is None or not box[2].strip():
        return None
    start, end, inner = box
    return Found(_introduction(text, start), end, inner.strip())


def _after_hashes(text: str, domain: Domain) -> Found | None:
    start = text.rfind("####")
    match = _HASHES.match(text, start) if start >= 0 else None
    if match is None or not _may_answer(match[1].strip(), domain) or _HEADING.match(match[1]):
        return None
    return Found(start, match.end(), match[1].strip())


def _on_last_line(text: str, domain: Domain) -> Found | None:
    line = text.rstrip()
    start = line.rfind("\n") + 1
    match = _LAST_LINE.match(line, start)
    if match is None or not _may_answer(line[match.end() :].strip(), domain):
        return None
    return Found(start, len(text), line[match.end() :].strip(" \t*"))


def _after_answer_is(text: str, domain: Domain) -> Found | None:
    """The last "the answer is"; for a choice the last with a letter behind it, where there is one."""
    spoken: Found | None = None
    for mention in list(_ANSWER.finditer(text))[-1 : -_TRIES - 1 : -1]:
        match = _IS.match(text, mention.end())
        if match is None:
            continue
        end = _sentence_end(text, match.end())
        answer = text[match.end() : end].strip(" \t*_")
        if not _may_answer(answer, domain) or (domain == "other" and text[end:].strip()):
            continue
        found = Found(_introduction(text, mention.start(), spoken=True), end, answer)
        if domain != "qa" or bracketed_letters(answer) or leads_with_letter(answer):
            return found
        spoken = spoken or found
    return spoken


def _sentence_end(text: str, start: int) -> int:
    match = _SENTENCE_END.search(text, start)
    assert match is not None
    return match.end()


def _introduction(text: str, start: int, *, spoken: bool = False) -> int:
    """Where "So the final answer is" begins, if such words stand right before `start`; `spoken`: "answer" is there."""
    reach = max(0, start - _LEAD_REACH)
    at = start
    for word in reversed(list(re.finditer(r"\S++", text[reach:start]))):
        bare = word[0].strip("*_$\\[(,:#>").lower()
        if bare and bare not in _LEAD_WORDS:
            break
        spoken = spoken or bare == "answer"
        at = reach + word.start()
    return at if spoken else reach + len(text[reach:start].rstrip(" \t$*_([\\"))


def _may_answer(answer: str, domain: Domain) -> bool:
    if len(answer) > _MARKED_ANSWER or not any(map(str.isalnum, answer)):
        return False
    if domain == "math":
        return "\\" in answer or any(map(str.isdigit, answer)) or len(answer.split(maxsplit=3)) <= 3
    return True


def _whole_line(text: str, domain: Domain) -> Found | None:
    """A last line that is nothing but an answer."""
    stripped = text.rstrip()
    start = stripped.rfind("\n") + 1
    line = stripped[start:].strip()
    if not line or len(line) > _SHORT:
        return None
    only = start == 0 and len(line) <= _BRIEF and len(line.split()) <= _BRIEF_WORDS
    if domain == "qa":
        named = leads_with_letter(line) or (yes_or_no(line) and len(line) <= len("False."))
        unnamed = only and not bracketed_letters(line) and not announced_letters(line)
        return Found(start, len(text), line) if named or unnamed else None
    if _NUMBER.fullmatch(line.rstrip(".")) or (only and not _NUMBER.search(line)):
        return Found(start, len(text), line)
    return None


def _last_letter(text: str) -> Found | None:
    """The last option named near the end of a response; its thinking is all of it."""
    tail = text[-_TAIL:]
    letters = bracketed_letters(tail) or announced_letters(tail)
    return Found(len(text), len(text), letters[-1][0].strip()) if letters else None


def _last_number(text: str) -> Found | None:
    """The last number of a response's last lines; its thinking is all of it."""
    lines = [line for line in text[-_TAIL:].splitlines() if line.strip()][-3:]
    for line in reversed(lines):
        numbers = _NUMBER.findall(line)
        if numbers:
            return Found(len(text), len(text), numbers[-1].strip())
    return None


def _function_body(text: str) -> Found | None:
    """All of the text; a body that continues a signature ends where a line begins at the margin."""
    if not text.strip():
        return None
    first = text.lstrip("\n")
    end = len(text)
    if first[:1] in (" ", "\t"):
        margin = re.compile(r"\n(?=[^\s#)\]}])").search(text, len(text) - len(first))
        end = margin.start() if margin else end
    return Found(0, len(text), text[:end].strip("\n").rstrip() + "\n")
