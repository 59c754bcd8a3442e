r"""Split a response into thinking and answer.

The thinking ends where the answer is introduced: the thinking of "...so she has 9 left. The answer is 18." ends at
"left.". `<think>` tags are removed, and the text between `</think>` and the answer belongs to the thinking. If the
answer comes first, the explanation after it is the thinking. A response that is truncated inside `<think>` has no
answer, unless the thinking has a marked one, such as a box or a tag.

A memory records `SPLITTER_VERSION`. Increase it with every change that moves a split or a canonical value, and add the
version before to `OLDER_SPLITTERS`: memories of older versions open, and their answers stay as they were read.
"""

from __future__ import annotations

from typing import NamedTuple

from memstore.text.extract import find_answer, marked_answer
from memstore.text.special_tokens import assistant_text
from memstore.types import Domain

SPLITTER_VERSION = "3"
OLDER_SPLITTERS = frozenset(["1", "2"])
"""1 (until 2026-11): no special tokens, Unicode digits, bases, periods; options only in capitals with a blank.
2 (2026-11): a program with a closing fence alone is not read; of a closing sentence always the last number."""

_OPEN, _CLOSE = "<think>", "</think>"


class SplitResponse(NamedTuple):
    """Thinking and answer of a response."""

    thinking: str
    answer: str
    """The answer as written in the response; "" if there is none."""


def split_response(response: str, domain: Domain) -> SplitResponse:
    """Split a response into thinking and answer, as described in the module docstring.

    Example:
        split_response("She has 9 left. The answer is 9.", "math") == ("She has 9 left.", "9.")
    """
    response = assistant_text(response)
    thought, closed, rest = response.rpartition(_CLOSE)
    if closed:
        thought = _without_tags(thought)
        if rest.strip():
            after = _split_untagged(rest, domain)
            return SplitResponse(_joined(thought, after.thinking), after.answer)
        return _cut_off(thought, domain)
    if response.lstrip().startswith(_OPEN):
        return _cut_off(_without_tags(response), domain)
    return _split_untagged(response, domain)


def extract_answer(text: str, domain: Domain) -> str:
    """Return the answer as written in the response, or "" if there is none."""
    return split_response(text, domain).answer


def embedded_text(thinking: str, answer: str) -> str:
    """Return the text that is embedded for a rollout: its thinking, or its answer if the thinking is blank."""
    if thinking.strip():
        return thinking
    return answer if answer.strip() else ""


def unfinished_thinking(response: str) -> str:
    """Return the whole text of a truncated response as thinking, without `<think>` tags."""
    return _without_tags(assistant_text(response))


def _split_untagged(text: str, domain: Domain) -> SplitResponse:
    found = find_answer(text, domain)
    if found is None:
        return SplitResponse(text.strip(), "")
    thinking = text[: found.start].strip()
    reasons = text[found.end :].strip()
    if not thinking and domain != "code" and any(map(str.isalnum, reasons)):
        thinking = reasons
    return SplitResponse(thinking, found.answer)


def _cut_off(thought: str, domain: Domain) -> SplitResponse:
    found = marked_answer(thought, domain)
    return SplitResponse(thought, found.answer if found else "")


def _without_tags(thought: str) -> str:
    return thought.replace(_CLOSE, "\n").replace(_OPEN, "").strip()


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
