"""Read prompts and completions as trainers log them: decoded chat templates and lists of messages.

The query is the user's message. For several turns it is the whole conversation, with each later turn under its role.
The system prompt is returned separately: it is the same for all queries of a run and would make them look alike.

The response is what the policy wrote: the assistant's messages, without those of tools and users. Reasoning that a
message carries beside its content comes first, in `<think>` tags.

Ingest and the trainer hooks both read rows with `read_prompt` and `read_completion`, so that a row has the same query
and the same response in both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from memstore.text.special_tokens import Turn, assistant_text, has_headers, turns, until_end

_REPLIES = ("assistant", "model")
_OTHERS = frozenset(
    ["system", "developer", "user", "tool", "function", "ipython", "environment", "observation", "tool_response"]
)
"""Roles of messages that a policy does not write."""
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_REASONING_PARTS = frozenset(["reasoning", "thinking"])
_PREFILL = re.compile(r"<think>\s*(?:</think>\s*)?\Z")
"""What a template puts before the completion: an opened reasoning, or an empty one where reasoning is off."""
_PLAIN_REPLY = re.compile(r"(?:^|\n|\s(?=(?-i:ASSISTANT)))[ \t#*]*(?:assistant|ai|response)[ \t*]*:[ \t*]*\Z", re.I)
_PLAIN_USER = re.compile(r"(?:^|\n|(?<=[.!?] ))[ \t#*]*(?:user|human|instruction)[ \t*]*:[ \t*]*", re.I)


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


def read_prompt(prompt: object) -> Prompt | None:
    """Read a prompt as a trainer passes or logs it: a list of messages, or a text; None if it is neither."""
    if isinstance(prompt, str):
        return decoded_prompt(prompt)
    if _is_list(prompt):
        text, system, _ = conversation(prompt)
        return Prompt(text, system)
    return None


def read_completion(completion: object) -> str | None:
    """Read the policy's response in a completion, which is a list of messages or a text; None if it is neither."""
    if isinstance(completion, str):
        return plain_output(completion)
    if not _is_list(completion):
        return None
    text, _, reasoning = conversation(_written_by_policy(completion), roles=False)
    return f"<think>\n{reasoning}\n</think>\n\n{text}" if reasoning.strip() else text


def _written_by_policy(messages: Sequence[Any]) -> list[Any]:
    roles = [str(message.get("role") or "") if isinstance(message, Mapping) else "" for message in messages]
    known = any(role in _REPLIES for role in roles)
    return [
        message
        for message, role in zip(messages, roles, strict=True)
        if (not role or role in _REPLIES if known else role not in _OTHERS)
    ]


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a list, a tuple or an array."""
    return isinstance(value, list | tuple) or (hasattr(value, "tolist") and hasattr(value, "__len__"))


def decoded_prompt(text: str) -> Prompt:
    """Parse a prompt that was rendered by a chat template and decoded, with or without its special tokens."""
    text = _PREFILL.sub("", text)
    if has_headers(text):
        return _from_turns(turns(text))
    text = _PREFILL.sub("", until_end(text)).strip()
    reply = _PLAIN_REPLY.search(text)
    user = _PLAIN_USER.search(text) if reply else None
    if reply and user and user.end() <= reply.start():
        # Vicuna, Alpaca: "... USER: ... ASSISTANT:"; the text before the user is the system prompt.
        return Prompt(text[user.end() : reply.start()].strip(), text[: user.start()].strip())
    return _from_role_lines(text)


def _from_turns(found: list[Turn]) -> Prompt:
    """The system prompt and the other turns; an empty assistant turn at the end asks for the completion."""
    system = [turn.text.strip() for turn in found if turn.role == "system"]
    rest = [turn for turn in found if turn.role != "system" and _PREFILL.sub("", turn.text).strip()]
    parts = [
        f"{turn.role}\n{turn.text.strip()}" if at and turn.role else turn.text.strip() for at, turn in enumerate(rest)
    ]
    return Prompt("\n".join(parts), "\n".join(system))


def _from_role_lines(text: str) -> Prompt:
    """A prompt whose roles are lines, as ChatML and Llama 3 leave them without their special tokens."""
    system = ""
    if text.startswith("system\n"):
        head, line, rest = text.partition("\nuser\n")
        if not line:
            # Without its special tokens, Llama's template has no line break between the turns.
            head, line, rest = text.partition("user\n\n")
        if line:
            system, text = head.removeprefix("system\n").strip(), "user\n" + rest
    asked = text.startswith("user\n")
    for reply in _REPLIES:
        if text.endswith("\n" + reply) or (asked and text.endswith(reply)):
            text = text.removesuffix(reply)
            break
    return Prompt(text.removeprefix("user\n").strip(), system)


def plain_output(text: str) -> str:
    """Return a completion without special tokens, its reasoning in `<think>` tags."""
    return assistant_text(text).removeprefix("assistant\n")


def conversation(messages: Sequence[Any], *, roles: bool = True) -> Conversation:
    """Return a list of chat messages as text; items that are not messages are taken as text.

    Args:
        roles: put each later turn under a line with its role; otherwise join the turns that have text.
    """
    system: list[str] = []
    turns: list[str] = []
    reasoning: list[str] = []
    for message in messages:
        role, content = "", _content(message)
        if isinstance(message, Mapping):
            role, content = str(message.get("role") or ""), _content(message.get("content"))
            thought = _reasoning(message)
            if thought:
                reasoning.append(thought)
        if role == "system":
            system.append(content)
        elif roles:
            turns.append(f"{role}\n{content}" if role and turns else content)
        elif content:
            turns.append(content)
    return Conversation("\n".join(turns), "\n".join(system), "\n".join(reasoning))


def _reasoning(message: Mapping[str, Any]) -> str:
    """The reasoning of a message: the first field that has one, or the parts of its content that are reasoning."""
    for key in _REASONING_KEYS:
        if thought := _content(message.get(key)):
            return thought
    content = message.get("content")
    parts = [part for part in content if _is_reasoning(part)] if _is_list(content) else []
    return "".join(_plain(part.get("thinking") or part.get("reasoning") or part.get("text")) for part in parts)


def _is_reasoning(part: object) -> bool:
    return isinstance(part, Mapping) and part.get("type") in _REASONING_PARTS


def _content(content: object) -> str:
    """The text of a message's content, which is a string or a list of parts; parts without text are skipped."""
    if _is_list(content):
        return "".join(
            _plain(part.get("text") if isinstance(part, Mapping) else part)
            for part in content
            if not _is_reasoning(part)
        )
    if isinstance(content, Mapping):
        return _plain(content.get("text"))
    return _plain(content)


def _plain(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) and value == value else ""
