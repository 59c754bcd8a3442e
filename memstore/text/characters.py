"""Map Unicode variants of ASCII characters to ASCII: full-width forms, digits of other scripts, dashes, styled letters.

The mapping never merges characters of different meaning: superscripts, subscripts and fractions are left to `latex.py`.
"""

from __future__ import annotations

import re
import unicodedata

_FULL_WIDTH = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_PUNCTUATION = str.maketrans(
    {
        **{chr(code): character for code, character in _FULL_WIDTH.items()},
        "\u3000": " ", "。": ".", "．": ".", "、": ",", "﹐": ",", "【": "[", "】": "]", "〔": "(", "〕": ")",
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-", "﹣": "-", "⁃": "-",
        "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "",
    }
)  # fmt: skip
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_STYLED_LETTER = re.compile("[\U0001d400-\U0001d6a3ℂℎℕℙℚℝℤℯℹℓ]")


def to_ascii(text: str) -> str:
    """Replace full-width forms, other scripts' digits, dashes and styled letters by their ASCII characters.

    Example:
        to_ascii("（４２，－７）") == "(42,-7)"
    """
    if text.isascii():
        return text
    text = text.translate(_PUNCTUATION)
    text = _FOREIGN_DIGIT.sub(lambda match: str(unicodedata.decimal(match[0])), text)
    return _STYLED_LETTER.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)


def without_symbols_behind(text: str) -> str:
    """Remove trailing emoji, check marks, variation selectors and other symbols that are not part of an answer."""
    end = len(text)
    while end and (text[end - 1].isspace() or _is_symbol(text[end - 1])):
        end -= 1
    return text[:end]


def _is_symbol(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character) in ("So", "Sk", "Cf", "Mn", "Co", "Cn")
