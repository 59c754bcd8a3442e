r"""The one splitter: a response into thinking and answer.

The thinking ends where the answer is introduced: "…so she has 9 left. The answer is 18." is thought up to "left.".
`<think>` tags are taken out; what stands behind `</think>` up to the answer belongs to the thinking still. Where
an answer stands first and its reasons behind it, the reasons are the thinking. A response that was cut off inside
`<think>` has no answer unless one is boxed or tagged there.

`SPLITTER_VERSION` is part of what a memory records: a change here that moves any split needs a new one.
"""

from __future__ import annotations

from typing import NamedTuple

from memstore.text.extract import find_answer, marked_answer
from memstore.types import Domain

SPLITTER_VERSION = "1"

_OPEN, _CLOSE = "<think>", "</think>"


class Split(NamedTuple):
    """A response in two."""

    thinking: str
    answer: str
    """As the response wrote it; "" where none can be read."""


def split_response(response: str, domain: Domain) -> Split:
    """Split a response; see the module."""
    thought, closed, rest = response.rpartition(_CLOSE)
    if closed:
        thought = _without_tags(thought)
        if rest.strip():
            after = _split_untagged(rest, domain)
            return Split(_joined(thought, after.thinking), after.answer)
        return _cut_off(thought, domain)
    if response.lstrip().startswith(_OPEN):
        return _cut_off(_without_tags(response), domain)
    return _split_untagged(response, domain)


def extract_answer(text: str, domain: Domain) -> str:
    """The answer that a response states, as it wrote it; "" where none can be read."""
    return split_response(text, domain).answer


def embedded_text(thinking: str, answer: str) -> str:
    """The text whose vector stands for a rollout: its thinking, or its answer where that is blank."""
    if thinking.strip():
        return thinking
    return answer if answer.strip() else ""


def unfinished_thinking(response: str) -> str:
    """The thinking of a response that was cut off before its answer: all of it, tags taken out."""
    return _without_tags(response)


def _split_untagged(text: str, domain: Domain) -> Split:
    found = find_answer(text, domain)
    if found is None:
        return Split(text.strip(), "")
    thinking = text[: found.start].strip()
    reasons = text[found.end :].strip()
    if not thinking and domain != "code" and any(map(str.isalnum, reasons)):
        thinking = reasons
    return Split(thinking, found.answer)


def _cut_off(thought: str, domain: Domain) -> Split:
    found = marked_answer(thought, domain)
    return Split(thought, found.answer if found else "")


def _without_tags(thought: str) -> str:
    return thought.replace(_CLOSE, "\n").replace(_OPEN, "").strip()


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
