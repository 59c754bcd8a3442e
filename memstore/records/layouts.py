"""Layouts of rows that hold one rollout under other names: messages, and a prompt with a response.

`as_prompt_and_completion` renames their keys. `missing_keys` describes a row that cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_QUESTION_KEYS = ("prompt", "question", "problem")
_RESPONSE_KEYS = ("completion", "response")
_MAX_NAMES = 20
"""Keys that a message lists."""
_MAX_NAME = 40
"""Characters of a key that a message shows."""

NEEDED = (
    "query with response (or answer), input with output, prompt with completion, prompt, question or problem with "
    "response, or messages"
)


def as_prompt_and_completion(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Rename the keys of a row to `prompt` and `completion`; None if it has no prompt or no completion."""
    if "messages" in values and "completion" not in values:
        split = split_chat(values["messages"])
        if split is not None:
            prompt, completion = split
            rest = {name: value for name, value in values.items() if name not in ("messages", "prompt")}
            return rest | {"prompt": prompt, "completion": completion}
    question = next((key for key in _QUESTION_KEYS if _is_text_or_chat(values.get(key))), None)
    response = next((key for key in _RESPONSE_KEYS if _is_text_or_chat(values.get(key))), None)
    if question is None or response is None:
        return None
    names = {question: "prompt", response: "completion"}
    taken = set(names.values()) - names.keys()
    kept = {name: value for name, value in values.items() if name not in taken}
    return {names.get(name, name): value for name, value in kept.items()}


def missing_keys(values: Mapping[str, Any]) -> str:
    """Describe a row that is no rollout: its keys, the keys that are needed, and how to choose others."""
    return (
        f"the row has the keys {key_list(values)}, but a rollout needs {NEEDED}, or a layout of docs/ingest.md; "
        "choose the values with `memstore ingest --map query=PATH,response=PATH`, and look at the result with --dry-run"
    )


def key_list(keys: Iterable[str]) -> str:
    """The first keys of a row, in their order, for a message."""
    names = [str(key).encode("utf-8", "backslashreplace").decode()[:_MAX_NAME] for key in keys]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more if names else "(none)"


def split_chat(messages: object) -> tuple[list[Any], list[Any]] | None:
    """Split a conversation behind its last user message; None if nothing follows that message."""
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        return None
    last = max((at for at, message in enumerate(messages) if message.get("role") == "user"), default=None)
    if last is None or last + 1 == len(messages):
        return None
    return messages[: last + 1], messages[last + 1 :]


def _is_text_or_chat(value: object) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, Sequence) and bool(value) and all(isinstance(item, Mapping) for item in value)
