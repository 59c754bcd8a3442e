r"""Find the answer that a response states.

The first kind of marker that is present is used; of several of that kind, the last:

    <answer>...</answer>                             every domain
    {"answer": ...}, as JSON                         math, qa, other
    a fenced block, else a function body             code
    \boxed{...}, with balanced braces                math, qa, other
    #### ...                                         math, qa
    A: ... on the last line                          math, qa, other
    the answer is ..., Answer: ...                   math, qa; other: only if nothing follows it
    #### Number: ..., on this line or the next       math
    no marker: a lettered option near the end (qa); the last number of the last lines (math); all of it (code, other)

A marker counts only if the text after it can be an answer. Each search takes time linear in the text.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from memstore.text.characters import to_ascii
from memstore.text.choice import announced_letters, bracketed_letters, leads_with_letter, yes_or_no
from memstore.text.fences import answer_block
from memstore.text.latex import last_boxed
from memstore.text.listing import program_span
from memstore.types import Domain


class StatedAnswer(NamedTuple):
    """An answer and its place in the text."""

    start: int
    """Start of the words that introduce the answer; the thinking ends here."""
    end: int
    """End of the statement."""
    answer: str


_TAG, _END_TAG = "<answer>", "</answer>"
_HASHES = re.compile(r"####[ \t]*+(?!#)([^\n]*+)")
_HASH_LABEL = re.compile(
    r"####[ \t*]*+(?:the[ \t]++)?(?:final[ \t]++)?(?:answer|number|result)[ \t*]*+(?:[:：=][\s*]*+|\n\s*+)([^\n]*+)",
    re.I,
)
"""A heading that announces a number, on its line or the next: "#### Number: 7", "#### ANSWER" and 7 below."""
_HEADING = re.compile(r"(?:\d+[.)]\s|\*\*)?\s*+[A-Za-z]{2}")
_LAST_LINE = re.compile(r"[\s*_>]*+(?:A|Ans)[\s*_]*+[:：][\s*_]*+", re.I)
_ANSWER = re.compile(r"\b(?:answers?|(?:correct|right|best)\s(?:option|choice|statement))\b", re.I)
_IS = re.compile(
    r"(?:\s++(?:choice|option|here|therefore|then|thus|to\s++(?:the|this)\s++(?:question|problem)))?+"
    r"[\s*_]*+(?:(?:is|are|was|be|(?:would|should|must|will|could|may|might)\s++be)\b(?!\s*+(?:in)?correct\b)|[:：=])"
    r"(?:[\s*_:：]++|\$\$|\\\[|(?:therefore|thus|indeed|then|likely|probably|most\s++likely|to\s++be|option|choice)\b)*+",
    re.I,
)
_ANSWER_CJK = re.compile(
    r"(?:答案|答え|正解|정답|解答|结果)(?:应该|應該|应|應)?(?:是|为|為|は|은|는|选|選)?[\s*_]*+[:：]?[\s*_]*+"
    r"|(?:故|应|應|因此|所以|则|综上|我)[,，]?(?:选择|選擇|选|選)(?:项|項)?[\s*_:：]*+|(?:选择|選擇|选|選)(?=[\s*_:：(（\[【]*[A-ZＡ-Ｚ](?![A-Za-z]))[\s*_:：]*+"
)
_SENTENCE_END = re.compile(r"[.!?](?=[\s*_\"”]|$)|[。！？]|\n|$")
_JSON_ANSWER = re.compile(
    r"(?:```(?:json)?\s*+)?(?:\{\s*+)?[\"'](?:final_?|predicted_?|correct_?)?(?:answer|choice|option|answer_?choice|answer_?letter)[\"']\s*+:\s*+"
    r"(\"(?:[^\"\\\n]|\\.){1,400}+\"|'[^'\n\\]{1,400}+'|-?[0-9][0-9.eE+-]{0,60})\s*+(?:[,}](?:\s*+\})?|$)(?:\s*+```)?",
    re.I,
)
"""The answer of a structured output; the key is quoted, as in JSON or in a Python dictionary."""
_LEAD_WORDS = frozenset(
    [
        "so", "thus", "therefore", "hence", "and", "then", "finally", "overall", "the", "this", "final", "best",
        "correct", "right", "most", "appropriate", "likely", "accurate", "my", "our", "your", "conclusion",
        "in", "is", "be", "answer", "answers", "option",
    ]
)  # fmt: skip
_MAX_INTRODUCTION = 100
"""Characters before a marker that are searched for introducing words."""
_MAX_MENTIONS = 20
"""Mentions of "answer" that are tried, from the end."""
_MAX_MARKED_ANSWER = 400
"""Characters that an answer after a marker may have."""
_MAX_ANSWER_LINE = 200
"""Characters that a last line consisting of an answer alone may have."""
_BRIEF, _BRIEF_WORDS = 80, 8
"""Characters and words up to which a response of one line is an answer without thinking."""
_TAIL = 1_000
"""Characters at the end of a response that are searched for an unmarked answer."""

_OPTION_LINE = re.compile(r"^[ \t*_>(\[]*+([A-Z])(?=[)\].:*_\s]|$)", re.M)
_NUMBER = re.compile(
    r"(?:(?<![\w.)\]}])[-−－]\s?)?[$£€¥￥]?\\?\$?(?:\d{1,3}+(?:[,\u00a0\u2009\u202f]\d{3})++(?!\d)|\d++)(?:\.\d++)?+"
    r"(?:/\d++(?:\.\d++)?+)?+(?:\s?\\?%)?+"
)
_RESULT = re.compile(rf"=\s*+({_NUMBER.pattern})")


def find_answer(text: str, domain: Domain) -> StatedAnswer | None:
    """Return the answer that `text` states, or None."""
    found = marked_answer(text, domain)
    if found is not None:
        return found
    if domain == "code":
        return _program(text)
    if domain == "other":
        return StatedAnswer(0, len(text), text.strip()) if text.strip() else None
    if domain == "math":
        return _whole_line(text, domain) or _last_number(text)
    first, last = _first_line(text), _whole_line(text, domain)
    if first and last and not _lists_options(text[first.end :]):
        first = None
    return first or last or _last_letter(text)


def _lists_options(reasons: str) -> bool:
    """Whether the lines below a first line discuss the options one by one."""
    return len(list(_OPTION_LINE.finditer(to_ascii(reasons)))) > 1


def marked_answer(text: str, domain: Domain) -> StatedAnswer | None:
    """Return the answer after a marker of `domain`, or None if there is no marker."""
    found = _tagged(text)
    if found is not None:
        return found
    if domain == "code":
        block = answer_block(text)
        return StatedAnswer(*block) if block else None
    found = _in_json(text) or _boxed(text)
    if found is None and domain != "other":
        found = _after_hashes(text, domain)
    found = found or _on_last_line(text, domain) or _after_answer_is(text, domain)
    return found or (_below_hash_label(text) if domain == "math" else None)


def _tagged(text: str) -> StatedAnswer | None:
    start = text.rfind(_TAG)
    if start < 0:
        return None
    end = text.find(_END_TAG, start)
    inner = text[start + len(_TAG) : end if end >= 0 else len(text)].strip()
    return StatedAnswer(start, end + len(_END_TAG) if end >= 0 else len(text), inner) if inner else None


def _in_json(text: str) -> StatedAnswer | None:
    """The last `"answer": ...` of a structured output."""
    if "{" not in text:
        return None
    matches = list(_JSON_ANSWER.finditer(text))
    if not matches:
        return None
    match = matches[-1]
    try:
        answer = match[1][1:-1].strip() if match[1].startswith("'") else str(json.loads(match[1])).strip()
    except ValueError:
        return None
    return StatedAnswer(match.start(), match.end(), answer) if answer else None


def _boxed(text: str) -> StatedAnswer | None:
    box = last_boxed(text)
    if box is None:
        return None
    start, end, inner = box
    return StatedAnswer(_introduction(text, start), end, inner.strip())


def _after_hashes(text: str, domain: Domain) -> StatedAnswer | None:
    start = text.rfind("####")
    match = _HASHES.match(text, start) if start >= 0 else None
    if match is None or not _may_answer(match[1].strip(), domain) or _HEADING.match(match[1]):
        return None
    return StatedAnswer(start, match.end(), match[1].strip())


def _below_hash_label(text: str) -> StatedAnswer | None:
    """The number of the last heading such as "#### Number: 7"."""
    start = text.rfind("####")
    match = _HASH_LABEL.match(text, start) if start >= 0 else None
    number = match[1].strip(" \t*").rstrip(".") if match else ""
    return StatedAnswer(start, match.end(), number) if match and _NUMBER.fullmatch(number) else None


def _on_last_line(text: str, domain: Domain) -> StatedAnswer | None:
    line = text.rstrip()
    start = line.rfind("\n") + 1
    match = _LAST_LINE.match(line, start)
    if match is None or not _may_answer(line[match.end() :].strip(), domain):
        return None
    return StatedAnswer(start, len(text), line[match.end() :].strip(" \t*"))


def _after_answer_is(text: str, domain: Domain) -> StatedAnswer | None:
    """The last "the answer is ..."; for qa the last one followed by a letter, if there is one."""
    announced: StatedAnswer | None = None
    for mention, start in _mentions(text):
        end = _sentence_end(text, start)
        answer = text[start:end].strip(" \t\n*_")
        if not _may_answer(answer, domain) or (domain == "other" and text[end:].strip()):
            continue
        found = StatedAnswer(_introduction(text, mention, announced=True), end, answer)
        if domain != "qa" or bracketed_letters(answer) or leads_with_letter(answer):
            return found
        announced = announced or found
    return announced


def _mentions(text: str) -> list[tuple[int, int]]:
    """Start of each "the answer is" and of the words after it, the last first."""
    found = [(match.start(), match.end()) for match in list(_ANSWER_CJK.finditer(text))[-_MAX_MENTIONS:]]
    for mention in list(_ANSWER.finditer(text))[-_MAX_MENTIONS:]:
        match = _IS.match(text, mention.end())
        if match:
            found.append((mention.start(), match.end()))
    return sorted(found, reverse=True)


def _sentence_end(text: str, start: int) -> int:
    match = _SENTENCE_END.search(text, start)
    assert match is not None
    return match.end()


def _introduction(text: str, start: int, *, announced: bool = False) -> int:
    """Start of introducing words such as "So the final answer is" that end at `start`.

    Args:
        announced: whether the word "answer" has been seen; without it there is no introduction.
    """
    reach = max(0, start - _MAX_INTRODUCTION)
    at = start
    for word in reversed(list(re.finditer(r"\S++", text[reach:start]))):
        bare = word[0].strip("*_$\\[(,:#>").lower()
        if bare and bare not in _LEAD_WORDS:
            break
        announced = announced or bare == "answer"
        at = reach + word.start()
    return at if announced else reach + len(text[reach:start].rstrip(" \t$*_([\\"))


def _may_answer(answer: str, domain: Domain) -> bool:
    if len(answer) > _MAX_MARKED_ANSWER or not any(map(str.isalnum, answer)):
        return False
    if domain == "math":
        return "\\" in answer or any(map(str.isdigit, answer)) or len(answer.split(maxsplit=3)) <= 3
    return True


def _whole_line(text: str, domain: Domain) -> StatedAnswer | None:
    """A last line that consists of an answer alone."""
    stripped = text.rstrip()
    start = stripped.rfind("\n") + 1
    line = stripped[start:].strip()
    if not line or len(line) > _MAX_ANSWER_LINE:
        return None
    only = start == 0 and len(line) <= _BRIEF and len(line.split()) <= _BRIEF_WORDS
    if domain == "qa":
        named = leads_with_letter(line) or (yes_or_no(line) and len(line) <= len("False."))
        unnamed = only and not bracketed_letters(line) and not announced_letters(line)
        return StatedAnswer(start, len(text), line) if named or unnamed else None
    if _NUMBER.fullmatch(line.rstrip(".")) or (only and not _NUMBER.search(line)):
        return StatedAnswer(start, len(text), line)
    return None


def _first_line(text: str) -> StatedAnswer | None:
    """A first line that names an option, with the reasons below; not the first line of a list of all options."""
    start = len(text) - len(text.lstrip())
    line, _, reasons = text[start:].partition("\n")
    line, length = to_ascii(line.rstrip()), len(line.rstrip())
    if not any(map(str.isalnum, reasons)) or len(line) > _MAX_ANSWER_LINE:
        return None
    lead = _OPTION_LINE.match(line)
    if lead and leads_with_letter(line):
        alone = not any(map(str.isalnum, line[lead.end() :]))
        listed = any(match[1] == chr(ord(lead[1]) + 1) for match in _OPTION_LINE.finditer(reasons))
        return None if listed and not alone else StatedAnswer(start, start + length, line)
    if yes_or_no(line) and len(line.strip("*_. ")) <= len("False"):
        return StatedAnswer(start, start + length, line)
    return None


def _last_letter(text: str) -> StatedAnswer | None:
    """The last option named near the end of a response; the whole response is its thinking."""
    tail = text[-_TAIL:]
    letters = bracketed_letters(tail) or announced_letters(tail)
    return StatedAnswer(len(text), len(text), letters[-1][0].strip()) if letters else None


def _last_number(text: str) -> StatedAnswer | None:
    """The last number in the last three lines of a response; the whole response is its thinking.

    If the last sentence repeats the result of the calculation before it, this is the answer: 20 in "4 * 5 = 20. So he
    walks 20 km in 5 days."
    """
    lines = [line for line in text[-_TAIL:].splitlines() if line.strip()][-3:]
    for line in reversed(lines):
        numbers = _NUMBER.findall(line)
        if numbers:
            result = _repeated_result(text[-_TAIL:].rstrip())
            return StatedAnswer(len(text), len(text), result or numbers[-1].strip())
    return None


def _repeated_result(text: str) -> str | None:
    """The result of the last calculation before the last sentence, if this sentence names it and calculates nothing."""
    starts = [match.end() for match in _SENTENCE_END.finditer(text) if match.end() < len(text)]
    if not starts or "=" in (closing := text[starts[-1] :]):
        return None
    results = _RESULT.findall(text[: starts[-1]])
    return results[-1] if results and results[-1] in _NUMBER.findall(closing) else None


def _program(text: str) -> StatedAnswer | None:
    """The program in a text without fences; an indented body ends before the first line that is not indented."""
    if not text.strip():
        return None
    first = text.lstrip("\n")
    if first[:1] in (" ", "\t"):
        margin = re.compile(r"\n(?=[^\s#)\]}])").search(text, len(text) - len(first))
        start, end = 0, margin.start() if margin else len(text)
    else:
        start, end = program_span(text)
    program = text[start:end].strip("\n").rstrip() + "\n"
    # Words before a program are its thinking; without any, what follows it is not one either.
    return StatedAnswer(start if text[:start].strip() else 0, len(text), program)
