"""Identity of a query: the text without what sources, trainers and templates add to it.

Two texts with the same `normalised_query` are one query of a memory. The normalised text is only hashed. A memory
stores and embeds the text that `readable_query` returns, which keeps line breaks and indentation.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from memstore.text.chat import decoded_prompt
from memstore.text.special_tokens import has_headers

_MAX_ROUNDS = 50
"""Removing a template may complete another one; texts are read until they stay as they are."""
_CACHED = 4_096
"""Normalised texts that are kept: the rollouts of a query stand together in most files."""


@lru_cache(maxsize=_CACHED)
def normalised_query(text: str) -> str:
    """The text that identifies a query: without chat template, in NFC, each run of white space as one blank.

    Of a rendered template, the user's turns remain. The system prompt is not part of a query, because a run puts the
    same one before every query. The options of a multiple choice are part of the text. A text that is nothing but a
    template stays as it is.

    Example:
        normalised_query("<|im_start|>user\\nWhat is  2+2?<|im_end|>\\n") == normalised_query("What is 2+2? ")
    """
    for _ in range(_MAX_ROUNDS):
        again = _once(text)
        if again == text:
            break
        text = again
    return text


def _once(text: str) -> str:
    return _composed(decoded_prompt(text).query) or _composed(text)


def _composed(text: str) -> str:
    """The text in NFC with single blanks. Splitting comes last, because NFC maps some spaces to others."""
    return " ".join(unicodedata.normalize("NFC", text).split())


@lru_cache(maxsize=_CACHED)
def readable_query(text: str) -> str:
    """The text of a query without a rendered chat template; any other text is returned as it is."""
    if not has_headers(text):
        return text
    return decoded_prompt(text).query or text
