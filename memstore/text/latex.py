"""Clean, tokenise and normalise LaTeX as models write it.

Removed commands leave a space, so their neighbours do not join into a new command or number.
"""

from __future__ import annotations

import re

_UNICODE = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "÷": "/", "∕": "/", "⁄": "/",
        "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "≤": "\\le ", "≥": "\\ge ", "≈": "\\approx ", "∪": "\\cup ",
        "²": "^2", "³": "^3", "°": " ", "€": " ", "£": " ", "¥": " ", "¢": " ", "\u00a0": " ", "\u202f": " ",
    }
)  # fmt: skip
_THIN = re.compile(
    r"(?<=[0-9])\\[,!](?=[0-9]{3})|\\!(?=[0-9])|(?<=,)\\!|(?<=[0-9])\{,(?=\}[0-9])|(?<=[0-9]\{,)\}(?=[0-9])"
)
"""Thin spaces and braced commas inside a number, as in `1\\,200` and `1{,}200`."""
_DECORATION = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|limits|[bB]ig{1,2}[lr]?|q?quad|degree"
    r"|text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|mbox|operatorname)(?![A-Za-z])"
    r"|\\[,;:!()\[\]$ ]|\^\s*+\{?\\circ\}?|[$~]|\\(?=\s|$)"
)
_SPELLING = re.compile(r"\\\\|\\(?:[dtc]frac|leq|geq|cdot|lbrace|rbrace)(?![A-Za-z])|\\[{}%]")
_SPELLED = {
    "\\\\": " ", "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac", "\\leq": "\\le", "\\geq": "\\ge",
    "\\cdot": "*", "\\lbrace": "{", "\\rbrace": "}", "\\{": "{", "\\}": "}", "\\%": "%",
}  # fmt: skip
_MAX_BOXES = 4
"""Occurrences of `\\boxed` without a brace that are skipped, from the end."""
_BOXED = re.compile(r"\\f?boxed\s*+\{")
_STARTS = ' \t\n\r,;:*_`"“”‘’'
_ENDS = ' \t\n\r.,;:*_`"“”‘’'

_TOKEN = re.compile(
    r"\\[A-Za-z]++|[0-9]{1,3}+(?:,[0-9]{3})++(?![0-9])(?:\.[0-9]++)?+|[0-9]++(?:\.[0-9]++)?+|\.[0-9]++|[A-Za-z]++|\S"
)
_SCIENTIFIC = re.compile(r"[-+]?[0-9.]++[eE][-+]?[0-9]++")


def last_boxed(text: str, before: int | None = None) -> tuple[int, int, str] | None:
    r"""Return start, end and content of the last `\boxed{...}`; an unclosed box extends to the end of the text."""
    match = None
    for _ in range(_MAX_BOXES):
        start = max(text.rfind("\\boxed", 0, before), text.rfind("\\fbox", 0, before))
        match = _BOXED.match(text, start) if start >= 0 else None
        if match or start < 0:
            break
        before = start
    if match is None:
        return None
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[match.end() :], re.S):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return start, match.end() + brace.end(), text[match.end() : match.end() + brace.start()]
    return start, len(text), text[match.end() :]


def clean(answer: str) -> str:
    """Remove boxes, delimiters, sizes, fonts, currency signs and surrounding punctuation from `answer`."""
    boxed = last_boxed(answer)
    if boxed and boxed[2].strip():
        answer = boxed[2]
    text = answer.translate(_UNICODE)
    if "\\" in text or "$" in text or "~" in text or "{" in text:
        text = _SPELLING.sub(lambda match: _SPELLED[match[0]], text)
        text = _THIN.sub("", text)
        text = _DECORATION.sub(" ", text)
    return stripped(text)


def stripped(text: str) -> str:
    """Remove surrounding punctuation from `text`, except a leading decimal point."""
    return text.lstrip(_STARTS).rstrip(_ENDS)


def tokens(text: str) -> list[str]:
    """Split `text` into commands, numbers (with thousands separators), words and single characters."""
    return _TOKEN.findall(text)


def spell(parts: list[str]) -> str:
    """Join tokens with normalised numbers, braces and spaces; tokenising the result gives the same tokens."""
    out: list[str] = []
    before = ""
    for part in _braced(parts):
        if before and (before == "," or _TOKEN.findall(before + part) != [before, part]):
            out.append(" ")
        out.append(part)
        before = part
    text = "".join(out)
    return re.sub("[eE]", r" \g<0>", text, count=1) if _SCIENTIFIC.fullmatch(text) else text


def _braced(parts: list[str]) -> list[str]:
    r"""Normalise braces and separators: `^{2}` to `^2`, `\frac12` to `\frac{1}{2}`, `\sqrt2` to `\sqrt{2}`."""
    out: list[str] = []
    rest = [part.replace(",", "") if part[0].isdigit() else part for part in reversed(parts)]
    arguments = 0
    while rest:
        part = rest.pop()
        if part in "{[":
            arguments = 0
        if arguments:
            if part[0].isalnum() and len(part) > 1:
                rest.append(part[1:])
                part = part[0]
            out += ["{", part, "}"]
            arguments -= 1
            continue
        if part in ("^", "_") and len(rest) >= 3 and rest[-1] == "{" and rest[-3] == "}" and len(rest[-2]) == 1:
            out += [part, rest[-2]]
            del rest[-3:]
            continue
        out.append(part)
        arguments = {"\\frac": 2, "\\sqrt": 1}.get(part, 0)
    return out


def unwrapped(text: str) -> str:
    """Remove round brackets and braces around the whole of `text`, unless it is a tuple."""
    if "," in text:
        return text
    partner: dict[int, int] = {}
    opened: list[int] = []
    for position, character in enumerate(text):
        if character in "([{":
            opened.append(position)
        elif character in ")]}":
            if not opened:
                return text
            partner[opened.pop()] = position
    start, end = 0, len(text)
    while end - start > 2 and text[start] in "({" and partner.get(start) == end - 1:
        start, end = start + 1, end - 1
    return stripped(text[start:end]) if start else text
