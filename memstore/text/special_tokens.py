r"""Special tokens of chat templates that remain in decoded text.

`turns` splits a text at the role headers of the common templates: ChatML (Qwen), Llama 2 and 3, Gemma, Phi, GLM,
Mistral, DeepSeek, Command R and harmony (gpt-oss). The text of a turn ends at its first end token. `assistant_text`
returns the model's own words of a response: tool results are left out, and a user turn ends it, because a model that
misses its end token goes on with a conversation of its own.

A token in quotation marks is text, as in `text.split("<|endoftext|>")`, and so is `<s>...</s>` in HTML.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_MARKS = (
    "<|",
    "<｜",
    "</s>",
    "<s>",
    "<eos>",
    "<bos>",
    "<pad>",
    "OS_TOKEN>",
    "_of_turn>",
    "INST]",
    "<end_of_utterance>",
    "[gMASK]",
)
_HEADER = re.compile(
    r"<\|im_start\|>[ \t]*+(\w*)[ \t]*+\n?"
    r"|<\|start_header_id\|>(\w*)<\|end_header_id\|>\s{0,2}"
    r"|<\|start\|>(\w*)(?=<\|(?:channel|message)\|>)"
    r"|<start_of_turn>(\w*)\n?"
    r"|<\|START_OF_TURN_TOKEN\|><\|(\w+?)_TOKEN\|>"
    r"|<\|(user|assistant|system|tool|observation)\|>\n?"
    r"|<｜(User|Assistant|System|tool▁outputs▁begin|tool▁outputs▁end)｜>"
    r"|(\[/?INST\])[ \t]?|(\[TOOL_RESULTS\]|\[/TOOL_RESULTS\])"
)
_ROLES = {
    "user": "user", "human": "user", "[INST]": "user", "system": "system", "developer": "system",
    "tool": "tool", "observation": "tool", "ipython": "tool", "function": "tool", "tool▁outputs▁begin": "tool",
    "[TOOL_RESULTS]": "tool",
}  # fmt: skip
_CHANNEL = re.compile(r"<\|channel\|>(\w++)[^<]{0,80}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>|<\|message\|>")
_BARE_CHANNELS = re.compile(r"\s*+analysis(?!\s)(.*?)assistantfinal(.*)", re.S)
_END = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|return|call|endoftext|end_of_text|eos|EOT|endofprompt|END_OF_TURN_TOKEN)\|>"
    r"|<｜end▁of▁sentence｜>|<end_of_turn>|<end_of_utterance>|<eos>|</s>"
)
_GOES_ON = re.compile(r"[ \t]*+[^\s<\[]")
"""Words on the same line: `<s>` and `</s>` are also HTML for struck-out text."""
_EDGE = r"(?:<\|[^|<>\n]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|<(?:/?s|bos|eos|pad|sop|unk|[BE]OS_TOKEN)>|\[gMASK\])"
_LEADING = re.compile(rf"\s*+{_EDGE}(?:\s*+{_EDGE})*+")
_BEHIND = re.compile(rf"{_EDGE}\s*+\Z")
_MAX_ROUNDS = 50
"""Removing a token may complete another one; texts are read until they stay as they are."""
_MAX_TOKEN = 60
"""Characters of the longest token and the space behind it."""
_EDGES_TRIED = 10_000
"""Special tokens that are removed from the end of a text: padding may be long."""
_THINKING_TAGS = {
    "[THINK]": "<think>", "[/THINK]": "</think>", "◁think▷": "<think>", "◁/think▷": "</think>",
    "<seed:think>": "<think>", "</seed:think>": "</think>", "<thinking>": "<think>", "</thinking>": "</think>",
    "<|begin_of_thought|>": "<think>", "<|end_of_thought|>": "</think>",
    "<|begin_of_solution|>": "", "<|end_of_solution|>": "",
}  # fmt: skip
_SYSTEM = re.compile(r"\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.S)


class Turn(NamedTuple):
    """One turn of a conversation."""

    role: str
    """`user`, `assistant`, `system` or `tool`; "" for text before the first header."""
    text: str


def turns(text: str) -> list[Turn]:
    """Split `text` at the role headers of chat templates and remove the special tokens around each turn."""
    found: list[Turn] = []
    role, start = "", 0
    for header in _HEADER.finditer(text):
        if _is_quoted(text, header.start()):
            continue
        _add(found, role, text[start : header.start()])
        role, start = _role(header), header.end()
    _add(found, role, text[start:])
    return found


def has_headers(text: str) -> bool:
    """Return whether `text` has a role header of a chat template."""
    return any(not _is_quoted(text, header.start()) for header in _HEADER.finditer(text))


def assistant_text(text: str) -> str:
    """Return the model's own words of a response, with its reasoning in `<think>` tags and without special tokens.

    Example:
        assistant_text("The answer is 12.<|im_end|>") == "The answer is 12."
    """
    for _ in range(_MAX_ROUNDS):
        again = _own_words(text)
        if again == text:
            break
        text = again
    return text


def _own_words(text: str) -> str:
    for tag, replacement in _THINKING_TAGS.items():
        if tag in text:
            text = text.replace(tag, replacement)
    bare = _BARE_CHANNELS.fullmatch(text) if "assistantfinal" in text else None
    if bare:
        return f"<think>{bare[1]}</think>{bare[2]}"
    if not any(mark in text for mark in _MARKS):
        return text
    words: list[str] = []
    for role, content in turns(text):
        if role == "user" and "<tool_response>" not in content[:200] and any(map(str.strip, words)):
            break
        if role in ("", "assistant"):
            words.append(content)
    return words[0] if len(words) == 1 else "\n".join(word for word in words if word.strip())


def _add(found: list[Turn], role: str, content: str) -> None:
    """Append a turn; the system block of Llama 2, which is inside the user's turn, becomes a turn of its own."""
    content = until_end(content)
    system = _SYSTEM.match(content) if role == "user" else None
    if system:
        found.append(Turn("system", system[1].strip()))
        content = content[system.end() :]
    if found or content.strip() or role:
        found.append(Turn(role, content))


def _role(header: re.Match[str]) -> str:
    name = next((group for group in header.groups() if group), "")
    return _ROLES.get(name, _ROLES.get(name.lower(), "assistant"))


def until_end(text: str) -> str:
    """Return the text of a turn up to its first end token, without special tokens at its edges."""
    if "<|message|>" in text:
        text = _without_channels(text)
    leading = _LEADING.match(text)
    if leading:
        text = text[leading.end() :]
    for end in _END.finditer(text):
        if _is_quoted(text, end.start()) or (end[0] == "</s>" and _GOES_ON.match(text, end.end())):
            continue
        text = text[: end.start()]
        break
    return _without_tokens_behind(text)


def _without_channels(text: str) -> str:
    """Harmony: the final channel is the answer, all other channels are thinking."""
    return _CHANNEL.sub(lambda match: {"final": "</think>", None: ""}.get(match[1], "<think>"), text)


def _without_tokens_behind(text: str) -> str:
    for _ in range(_EDGES_TRIED):
        if text[-1:] not in (">", "]") and not text[-1:].isspace():
            return text
        near = max(0, len(text) - _MAX_TOKEN)
        start = max(text.rfind("<", near), text.rfind("[", near))
        behind = _BEHIND.match(text, start) if start >= 0 else None
        if behind is None or _is_quoted(text, start):
            return text
        text = text[:start].rstrip()
    return text


def _is_quoted(text: str, start: int) -> bool:
    return start > 0 and text[start - 1] in "'\"`"
