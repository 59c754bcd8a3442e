r"""Clean, tokenise and normalise LaTeX as models write it.

`normalised` rewrites spellings of the same formula to one, and its result is still LaTeX: Unicode characters, upright
letters, separators of digits, repeating decimals. `clean` also removes boxes, delimiters and units in `\text{...}`.
Removed commands leave a space, so their neighbours do not join into a new command or number.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from memstore.text.characters import to_ascii, without_symbols_behind
from memstore.text.units import is_text_unit, without_formula_unit

_UNICODE = str.maketrans(
    {
        "×": "\\times ", "·": "\\cdot ", "⋅": "\\cdot ", "∙": "\\cdot ", "∗": "*", "÷": "/", "∕": "/", "⁄": "/",
        "π": "\\pi ", "∞": "\\infty ", "√": "\\sqrt ", "≤": "\\le ", "≥": "\\ge ", "⩽": "\\le ", "⩾": "\\ge ",
        "≈": "\\approx ", "∪": "\\cup ", "∩": "\\cap ", "∅": "\\emptyset ", "±": "\\pm ", "≠": "\\neq ",
        "′": "'", "°": "^\\circ ", "º": "^\\circ ", "℃": " ", "℉": " ", "€": " ", "£": " ", "¥": " ", "￥": " ",
        "¢": " ", "₹": " ", "…": "...", "∎": " ", "■": " ",
    }
)  # fmt: skip
_RAISED = {"⁰": "0", "¹": "1", "²": "2", "³": "3", **{chr(0x2070 + digit): str(digit) for digit in range(4, 10)},
           "⁺": "+", "⁻": "-", "ⁿ": "n", "ⁱ": "i"}  # fmt: skip
_LOWERED = {chr(0x2080 + digit): str(digit) for digit in range(10)}
_RAISED_RUN = re.compile(f"[{''.join(_RAISED)}]+")
_LOWERED_RUN = re.compile(f"[{''.join(_LOWERED)}]+")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")
_ROOT = re.compile(r"\\sqrt\s+\(([^()]{1,200})\)")
_OVERLINED = re.compile("((?:[0-9]\u0305)+)")

_SPACE = r"(?:[\u00a0\u2000-\u200a\u202f\u205f]|\\[,:;! ]|~|\{,\}|['’](?=[0-9]{3}(?![0-9])))"
_GROUPED = re.compile(rf"(?<![0-9.,])(?<![0-9]\\[,:;! ])[1-9][0-9]{{0,2}}+(?:{_SPACE}[0-9]{{3}}(?![0-9]))++")
"""Digits in groups of three, separated by thin or no-break spaces: an ordinary space may separate two numbers."""
_SEPARATOR = re.compile(_SPACE)
_DECIMAL_COMMA = re.compile(r"(?<=[0-9])\{,\}(?=[0-9])")
_THIN = re.compile(r"\\!(?=[0-9])|(?<=,)\\!")
"""Negative thin space inside a number, as in `1,\\!200`."""
_FONT = (
    r"\\(?:text|textbf|textit|textrm|textnormal|textsf|texttt|mathrm|mathbf|mathit|mathsf|mathtt|boldsymbol|bm|mbox|hbox"
    r"|operatorname\*?|mathop)(?![A-Za-z])\s*+"
)
_STYLED = re.compile(_FONT + r"\{([^{}]*)\}")
_CONSTANT = re.compile(_FONT + r"(?:\{\s*(e|i|d|\\?pi)\s*\}|(e|i|d)(?![A-Za-z]))")
_CONSTANTS = {"pi": "\\pi"}
_UNIT_POWER = r"(?:\s*+\^\s*+\{?\s*+-?[1-4]\s*+\}?)?+"
_TEXT_UNIT = re.compile(
    rf"(?<=[0-9)}}\]A-Za-z])(?:\s|\\[,:;! ]|~|\^\s*\{{?\\circ\}}?)*+(?:{_FONT}\{{([^{{}}]*)\}}{_UNIT_POWER}"
    rf"|\\[dt]?frac\s*+\{{\s*+{_FONT}\{{([^{{}}]*)\}}{_UNIT_POWER}\s*+\}}\s*+\{{\s*+{_FONT}\{{([^{{}}]*)\}}{_UNIT_POWER}\s*+\}})"
    r"[\s.$]*+\Z"
)
_EQUIVALENT = {
    "\\varnothing": "\\emptyset", "\\O": "\\emptyset", "\\ne": "\\neq", "\\leqslant": "\\le", "\\geqslant": "\\ge",
    "\\leq": "\\le", "\\geq": "\\ge", "\\dfrac": "\\frac", "\\tfrac": "\\frac", "\\cfrac": "\\frac",
    "\\land": "\\wedge", "\\lor": "\\vee", "\\to": "\\rightarrow", "\\Euler": "e",
}  # fmt: skip
_COMMAND = re.compile(r"\\[A-Za-z]++")

_BLOCK = r"([0-9]{1,40})"
_OVERLINE = re.compile(
    rf"([0-9]{{0,40}})\.([0-9]{{0,40}})\\(?:overline|bar|dot|overbar|widebar)\s*+\{{?\s*+{_BLOCK}\s*+\}}?+(?:\s*+\.{{3,}})?+(?![0-9\\])"
)
_TWO_DOTS = re.compile(
    r"([0-9]{0,40})\.([0-9]{0,40})\\dot\s*+\{?([0-9])\}?([0-9]{0,38})\\dot\s*+\{?([0-9])\}?(?![0-9])"
)
_BRACKETED_PERIOD = re.compile(r"\s*([-+]?)([0-9]{0,40})\.([0-9]{0,40})\(([0-9]{1,40})\)\s*")
_DOTTED = re.compile(
    r"(?<![0-9.])([0-9]{1,40})\.([0-9]{1,80})\s*+(?:\.{3,}|\\(?:[cl]dots|dots)(?![A-Za-z]))(?!\s*[0-9A-Za-z\\])"
)
_PERIOD = re.compile(r"([0-9]*?)(?:([0-9])\2{2,}|([0-9]{2,5})\3{2,}|([0-9]{6,})\4+)\Z")
"""A digit three times, a block of two to five digits three times, or a longer one twice: e is 2.718281828..."""

_DECORATION = re.compile(
    r"\\(?:left|right|displaystyle|textstyle|scriptstyle|limits|[bB]ig{1,2}[lrm]?|q?quad|degree|blacksquare|checkmark|qed"
    r"|text|textbf|textit|textrm|textnormal|textsf|texttt|mathrm|mathbf|mathit|mathsf|mathtt|boldsymbol|bm|mbox|hbox"
    r"|operatorname|euro|pounds|yen|hfill|mathstrut|strut|nobreak|enspace|thinspace)(?![A-Za-z])"
    r"|\\[hv]?(?:phantom|space)\*?\s*+\{[^{}]*+\}|\\[,;:!()\[\]$ ]|[$~]|\\(?=\s|$)"
    r"|\^\s*+\{?\s*+\\circ\s*+\}?(?:\s*+[CFK](?![A-Za-z]))?+"
)
_SPELLING = re.compile(r"\\\\|\\(?:cdot|lbrace|rbrace)(?![A-Za-z])|\\[{}%]")
_SPELLED = {"\\\\": " ", "\\cdot": "*", "\\lbrace": "{", "\\rbrace": "}", "\\{": "{", "\\}": "}", "\\%": "%"}
_EMPTY_SET = re.compile(r"\s*+\$?\\(?:\{|lbrace)(?:\s|\\[,;:! ])*+\\(?:\}|rbrace)\$?\s*+")
_MAX_BOXES = 8
"""Boxes that are tried, from the end."""
_BOXED = re.compile(r"\\f?boxed\s*+\{")
_PLACEHOLDER = re.compile(
    r"(?:[\s.…?_\-*$#]|\\_|\\[cl]?dots|\\(?:square|Box|ldots|quad|qquad|,|;|!|\s)|\\[hv]?phantom\s*\{[^{}]*\}"
    r"|\\(?:text|textbf|mathrm)\s*\{[\s.…?_]*\}"
    r"|\\(?:text|textbf|mathrm)\s*\{\s*(?:your |the |final )*(?:answer|solution|result)(?: here)?\s*\}"
    r"|\[?(?:your |the |final )*(?:answer|solution|result)(?: here)?\]?)*+",
    re.I,
)
_STARTS = ' \t\n\r,;:*_`"“”‘’'
_ENDS = ' \t\n\r.,;:*_`"“”‘’'

_TOKEN = re.compile(
    r"\\[A-Za-z]++|[0-9]{1,3}+(?:,[0-9]{3})++(?![0-9])(?:\.[0-9]++)?+|[0-9]++(?:\.[0-9]++)?+|\.[0-9]++|[A-Za-z]++|\S"
)
_SCIENTIFIC = re.compile(r"[-+]?[0-9.]++[eE][-+]?[0-9]++")


def last_boxed(text: str) -> tuple[int, int, str] | None:
    r"""Return start, end and content of the last `\boxed{...}` that holds an answer.

    An unclosed box extends to the end of the text. A placeholder such as `\boxed{...}`, `\boxed{?}` or an empty box is
    skipped.
    """
    before = len(text)
    for _ in range(_MAX_BOXES):
        start = max(text.rfind("\\boxed", 0, before), text.rfind("\\fbox", 0, before))
        if start < 0:
            return None
        match = _BOXED.match(text, start)
        if match:
            end, inner = _balanced(text, match.end())
            if not _PLACEHOLDER.fullmatch(inner):
                return start, end, inner
        before = start
    return None


def _balanced(text: str, start: int) -> tuple[int, str]:
    """The end of a group in braces that opens before `start`, and its content."""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.S):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return start + brace.end(), text[start : start + brace.start()]
    return len(text), text[start:]


def normalised(text: str) -> str:
    """Rewrite spellings of the same formula to one; the result is LaTeX that a formula parser reads.

    Example:
        normalised("1\\\\,234 + \\\\mathrm{e}") == "1234 + e"
    """
    text = _GROUPED.sub(lambda match: _SEPARATOR.sub("", match[0]), text)
    if not text.isascii():
        text = _from_unicode(text)
    if "{,}" in text:
        text = _DECIMAL_COMMA.sub(".", text)
    if "\\" in text:
        text = _CONSTANT.sub(_constant, text)
        text = _COMMAND.sub(lambda match: _EQUIVALENT.get(match[0], match[0]), text)
        text = _THIN.sub("", text)
    return _with_periods(text)


def _constant(match: re.Match[str]) -> str:
    """An upright constant, set off from letters beside it: a formula parser reads `2i` but not `2 i`."""
    name = _CONSTANTS.get(match[1], match[1] or match[2])
    before, behind = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    return f"{' ' * before.isalpha()}{name}{' ' * behind.isalpha()}"


def formula(text: str) -> str:
    """Return an answer as LaTeX for a formula parser: normalised, without a unit or symbols behind it."""
    return without_formula_unit(_without_text_unit(without_symbols_behind(normalised(text))))


def _from_unicode(text: str) -> str:
    text = _OVERLINED.sub(lambda match: f"\\overline{{{match[1].replace(chr(0x305), '')}}}", text)
    text = _VULGAR.sub(_fraction_of, to_ascii(text))
    text = _RAISED_RUN.sub(lambda match: f"^{{{''.join(map(_RAISED.__getitem__, match[0]))}}}", text)
    text = _LOWERED_RUN.sub(lambda match: f"_{{{''.join(map(_LOWERED.__getitem__, match[0]))}}}", text)
    text = text.translate(_UNICODE)
    return re.sub(r"[^\S\n\t ]", " ", _ROOT.sub(r"\\sqrt{\1}", text))


def _fraction_of(match: re.Match[str]) -> str:
    value = Fraction(unicodedata.numeric(match[0])).limit_denominator(20)
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}"


def _with_periods(text: str) -> str:
    """Replace repeating decimals by fractions: `0.1\\overline{6}`, `0.\\dot{3}`, `0.1(6)`, `0.333...`."""
    if "." not in text:
        return text
    bracketed = _BRACKETED_PERIOD.fullmatch(text)
    if bracketed:
        return bracketed[1] + _repeating(bracketed[2], bracketed[3], bracketed[4])
    if "\\" in text:
        text = _TWO_DOTS.sub(lambda match: _repeating(match[1], match[2], match[3] + match[4] + match[5]), text)
        text = _OVERLINE.sub(lambda match: _repeating(match[1], match[2], match[3]), text)
    if "..." in text or "dots" in text:
        text = _DOTTED.sub(_from_dots, text)
    return text


def _from_dots(match: re.Match[str]) -> str:
    period = _PERIOD.fullmatch(match[2])
    if period is None:
        return match[0]
    return _repeating(match[1], period[1], period[2] or period[3] or period[4])


def _repeating(whole: str, decimals: str, period: str) -> str:
    """The fraction of a repeating decimal, as LaTeX."""
    scale = 10 ** len(decimals)
    value = Fraction(int(f"0{whole}{decimals}"), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))
    return f"\\frac{{{value.numerator}}}{{{value.denominator}}}" if value.denominator > 1 else str(value.numerator)


def clean(answer: str) -> str:
    """Remove boxes, delimiters, sizes, fonts, currency signs and surrounding punctuation from `answer`."""
    boxed = last_boxed(answer)
    if boxed:
        answer = boxed[2]
    if _EMPTY_SET.fullmatch(answer):
        return "\\emptyset"
    text = without_symbols_behind(normalised(answer))
    if "\\" in text:
        text = _without_text_unit(text)
    if "\\" in text or "$" in text or "~" in text:
        text = _unstyled(text)
        text = _SPELLING.sub(lambda match: _SPELLED[match[0]], text)
        text = _DECORATION.sub(" ", text)
    return stripped(text)


def _without_text_unit(text: str) -> str:
    r"""Remove a unit in `\text{...}` at the end; not if another number has a unit too ("3 ft 2 in")."""
    unit = _TEXT_UNIT.search(text)
    if unit is None or not all(words is None or is_text_unit(words) for words in unit.groups()):
        return text
    before = text[: unit.start()]
    return text if any(map(is_text_unit, _STYLED.findall(before))) else before


def _unstyled(text: str) -> str:
    r"""Replace `\text{...}` and other font commands by their content; an exponent or index keeps its braces."""
    for _ in range(3):
        again = _STYLED.sub(
            lambda match: (
                f"{{{match[1]}}}" if match.string[: match.start()].rstrip()[-1:] in ("^", "_") else f" {match[1]} "
            ),
            text,
        )
        if again == text:
            break
        text = again
    return text


def stripped(text: str) -> str:
    """Remove surrounding punctuation and trailing symbols from `text`, except a leading decimal point."""
    text = text.lstrip(_STARTS).rstrip(_ENDS)
    return text if text.isascii() else without_symbols_behind(text).rstrip(_ENDS)


def tokens(text: str) -> list[str]:
    """Split `text` into commands, numbers (with thousands separators), words and single characters."""
    return _TOKEN.findall(text)


def spell(parts: list[str]) -> str:
    """Join tokens with normalised numbers, signs, braces and spaces; tokenising the result gives the same tokens."""
    out: list[str] = []
    before = ""
    for part in _braced(_simplified(parts)):
        if before and (before == "," or _TOKEN.findall(before + part) != [before, part]):
            out.append(" ")
        out.append(part)
        before = part
    text = "".join(out)
    return re.sub("[eE]", r" \g<0>", text, count=1) if _SCIENTIFIC.fullmatch(text) else text


def _simplified(parts: list[str]) -> list[str]:
    """Numbers without separators and trailing zeros, `+ -` as `-`, `1i` as `i`."""
    out: list[str] = []
    for part in parts:
        if part[0].isdigit() or (part[0] == "." and len(part) > 1):
            part = _plain_number(part)
        if part == "i" and out[-1:] == ["1"] and (len(out) == 1 or out[-2] in ("+", "-", "(", ",")):
            out.pop()
        if part in ("+", "-") and out and out[-1] in ("+", "-"):
            part = "+" if part == out.pop() else "-"
        out.append(part)
    return out


def _plain_number(number: str) -> str:
    whole, point, decimals = number.replace(",", "").partition(".")
    decimals = decimals.rstrip("0")
    return f"{whole or '0'}.{decimals}" if decimals else whole or ("0" if point else number)


def _braced(parts: list[str]) -> list[str]:
    r"""Normalise braces: `^{2}` to `^2`, `\frac12` to `\frac{1}{2}`, `\sqrt2` to `\sqrt{2}`, `{x}` alone to `x`."""
    out: list[str] = []
    rest = list(reversed(parts))
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
