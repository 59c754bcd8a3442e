"""Canonical answers: map an answer to the value that votes are counted by.

Two answers have the same value only if they are the same answer. An answer that is not a number, a choice or a program
is compared as text. The mapping is idempotent for math, qa and other: the canonical value of a value is the value
itself. The value of a form longer than 2,000 characters, and of an answer that reads differently each time it is
normalised, is a digest.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from memstore.text import choice, maths, program
from memstore.text.plain import digest, fold
from memstore.text.special_tokens import assistant_text
from memstore.types import Domain

_MAX_VALUE = 2_000
"""Characters; longer values are replaced by their digest, which bounds the size of an Answer node."""
_DIGEST = re.compile(r"blake2b:[0-9a-f]{64}")
_MAX_ROUNDS = 8
_CACHED_LENGTH = 200
"""Characters; longer answers rarely repeat and are not cached."""


class Canonical(NamedTuple):
    """A canonical answer."""

    value: str
    """The value that votes are counted by; "" for a blank answer."""
    text: str
    """The text to display; a function of query, domain and value."""


def canonical_answer(answer: str, domain: Domain, query: str) -> Canonical:
    """Return the canonical value and display text of an answer.

    Args:
        answer: the answer as written in the rollout, of any length.
        domain: the domain of the query.
        query: the text of the query, which contains the options of a choice or the signature of a program.

    Example:
        canonical_answer("\\\\frac{1}{2}", "math", "") == canonical_answer("$0.50", "math", "") == ("0.5", "0.5")
    """
    first = result = _canonical(answer, domain, query)
    if domain == "code":
        return result
    for _ in range(_MAX_ROUNDS):
        # A form without its marks may show a special token that they hid.
        again = _canonical(result.value, domain, query) if _has_mark(result.value) else result
        if again.value == result.value:
            return result
        result = again
    return Canonical(digest(first.value), first.text)


def is_cut_off(value: str, text: str) -> bool:
    """Whether the display text of a canonical value is only the beginning of the answer."""
    return len(text) >= _MAX_VALUE and _DIGEST.fullmatch(value) is not None


def _has_mark(text: str) -> bool:
    return "<" in text or "[/" in text


def _canonical(answer: str, domain: Domain, query: str) -> Canonical:
    if _has_mark(answer):
        answer = assistant_text(answer)
    if not answer or answer.isspace():
        return Canonical("", "")
    if domain == "math":
        return _short_math(answer) if len(answer) <= _CACHED_LENGTH else _shortened(maths.canonical(answer))
    if _DIGEST.fullmatch(answer):
        return Canonical(answer, answer)
    if domain == "qa":
        return _choice(answer, query)
    if domain == "code":
        return _shortened(program.canonical(answer, query))
    return _shortened(fold(answer))


@lru_cache(maxsize=32_768)
def _short_math(answer: str) -> Canonical:
    if _DIGEST.fullmatch(answer):
        return Canonical(answer, answer)
    return _shortened(maths.canonical(answer))


def _choice(answer: str, query: str) -> Canonical:
    offered = choice.options(query)
    if not offered.texts:
        return _shortened(choice.yes_or_no(answer) or fold(answer))
    # The words without their marks may be the text of an option: a value has to read as itself.
    letter = choice.named_letter(answer, offered) or choice.named_letter(fold(answer), offered)
    if letter:
        return Canonical(letter, f"({letter}) {offered.texts.get(letter, '')}".rstrip())
    return _shortened(fold(answer))


def _shortened(value: str) -> Canonical:
    if len(value) <= _MAX_VALUE:
        return Canonical(value, value)
    return Canonical(digest(value), value[:_MAX_VALUE])
