"""An answer to the value that votes are counted by.

Two answers have one value only where they are the same answer: what cannot be read as a number, a choice or a
program keeps its own words. Reading a value again gives that value. A form longer than 2,000 characters has its
digest as value and its beginning as text.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import NamedTuple

from memstore.text import choice, maths, program
from memstore.text.plain import fold
from memstore.types import Domain

_LONG = 2_000
_DIGEST = re.compile(r"blake2b:[0-9a-f]{64}")
_CACHED_LENGTH = 200


class Canonical(NamedTuple):
    """What an answer comes to."""

    value: str
    """What votes are counted by; "" where nothing could be read."""
    text: str
    """What a person reads; a function of query, domain and value."""


def canonical_answer(answer: str, domain: Domain, query: str) -> Canonical:
    """The canonical value of an answer.

    Args:
        answer: as the rollout wrote it, of any length.
        query: its text: it holds the options of a choice and the signature of a program.

    Example:
        canonical_answer("\\\\frac{1}{2}", "math", "") == canonical_answer("$0.50", "math", "") == ("0.5", "0.5")
    """
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
    letter = choice.named_letter(answer, offered)
    if letter:
        return Canonical(letter, f"({letter}) {offered.texts.get(letter, '')}".rstrip())
    return _shortened(fold(answer))


def _shortened(value: str) -> Canonical:
    if len(value) <= _LONG:
        return Canonical(value, value)
    digest = hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
    return Canonical(f"blake2b:{digest}", value[:_LONG])
