"""Read prompts and completions as trainers log them: decoded chat templates and lists of messages.

The query is the user's message. For several turns it is the whole conversation, with each later turn under its role.
The system prompt is returned separately: it is the same for all queries of a run and would make them look alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_SPECIAL = (
    "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|end_of_text|>", "<|endoftext|>",
)  # fmt: skip
_REPLIES = ("assistant", "model")


class Prompt(NamedTuple):
    """A prompt without its chat template."""

    query: str
    system: str


class Conversation(NamedTuple):
    """The text of a list of messages."""

    text: str
    system: str
    reasoning: str
    """The reasoning that the messages carry in a field beside `content`."""


def decoded_prompt(text: str) -> Prompt:
    """Parse a prompt that was rendered by a chat template and decoded, removing its role lines."""
    text = _without_special(text).strip()
    system = ""
    if text.startswith("system\n"):
        head, line, rest = text.partition("\nuser\n")
        if not line:
            # Without its special tokens, Llama's template has no line break between the turns.
            head, line, rest = text.partition("user\n\n")
        if line:
            system, text = head.removeprefix("system\n").strip(), "user\n" + rest
    asked = text.startswith("user\n")
    text = text.removesuffix("<think>").rstrip()
    for reply in _REPLIES:
        if text.endswith("\n" + reply) or (asked and text.endswith(reply)):
            text = text.removesuffix(reply)
            break
    return Prompt(text.removeprefix("user\n").strip(), system)


def plain_output(text: str) -> str:
    """Return a completion without special tokens."""
    return _without_special(text).removeprefix("assistant\n")


def conversation(messages: Sequence[Any]) -> Conversation:
    """Return a list of chat messages as text; items that are not messages are taken as text."""
    system: list[str] = []
    turns: list[str] = []
    reasoning: list[str] = []
    for message in messages:
        role, content = "", _content(message)
        if isinstance(message, Mapping):
            role, content = str(message.get("role") or ""), _content(message.get("content"))
            thought = message.get("reasoning_content") or message.get("reasoning")
            if isinstance(thought, str):
                reasoning.append(thought)
        if role == "system":
            system.append(content)
        else:
            turns.append(f"{role}\n{content}" if role and turns else content)
    return Conversation("\n".join(turns), "\n".join(system), "\n".join(reasoning))


def _content(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts; parts without text are skipped."""
    if isinstance(content, list | tuple):
        return "".join(_plain(part.get("text") if isinstance(part, Mapping) else part) for part in content)
    return _plain(content)


def _plain(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else ""


def _without_special(text: str) -> str:
    if "<|" in text:
        for token in _SPECIAL:
            text = text.replace(token, "")
    return text
