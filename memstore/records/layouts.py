"""Layouts of rows that other tools write: messages, prompt with response, and those that need a conversion first.

`as_prompt_and_completion` renames the keys of layouts that hold one rollout a row. `missing_keys` describes a row that
cannot be read: the keys that it has, the keys that a rollout needs, and the Python that converts it.
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
_CONVERSIONS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(["columns", "data"]), "rows = [dict(zip(row['columns'], values)) for values in row['data']]"),
    (
        frozenset(["doc", "resps"]),
        "rows = [{'query': row['arguments']['gen_args_0']['arg_0'], 'response': response, 'gold': row['target']} "
        "for response in row['resps'][0]]",
    ),
    (
        frozenset(["custom_id", "response"]),
        "rows = [{'query': queries[row['custom_id']], 'response': choice['message']['content']} "
        "for choice in row['response']['body']['choices']], with the queries of the batch's input by custom_id",
    ),
    (
        frozenset(["responses_create_params", "response"]),
        "rows = [{'query': row['responses_create_params']['input'][-1]['content'], 'response': "
        "row['response']['output'][-1]['content'][-1]['text'], 'reward': row.get('reward')}]",
    ),
    (
        frozenset(["eval", "samples"]),
        "rows = [{'query': sample['input'], 'response': sample['output']['choices'][0]['message']['content'], "
        "'gold': sample['target']} for sample in row['samples']]",
    ),
    (
        frozenset(["input", "output", "target"]),
        "rows = [{'query': row['input'], 'response': row['output']['choices'][0]['message']['content'], "
        "'gold': row['target']}]",
    ),
    (
        frozenset(["generations"]),
        "rows = [{'query': row['problem'], 'response': text, 'gold': row['answer']} for text in row['generations']]",
    ),
    (
        frozenset(["attributes"]),
        "rows = [{'query': row['attributes']['gen_ai.prompt.0.content'], 'response': "
        "row['attributes']['gen_ai.completion.0.content']}]",
    ),
    (
        frozenset(["conversations"]),
        "rows = [{'query': row['conversations'][-2]['value'], 'response': row['conversations'][-1]['value']}]",
    ),
    (
        frozenset(["instruction", "output"]),
        "rows = [{'query': row['instruction'] + '\\n' + row.get('input', ''), 'response': row['output']}]",
    ),
)


def as_prompt_and_completion(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Rename the keys of a row to `prompt` and `completion`; None if it has no prompt or no completion."""
    if "messages" in values and "completion" not in values:
        split = _split_chat(values["messages"])
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
    """Describe a row that is no rollout: its keys, the keys that are needed, and how to convert it."""
    message = f"the row has the keys {key_list(values)}, but a rollout needs {NEEDED}"
    for keys, code in _CONVERSIONS:
        if keys <= values.keys():
            return f"{message}; convert it first with Python: {code}"
    return (
        f"{message}; rename them first, for example with Python: rows = [{{'query': row[QUESTION], 'response': "
        "row[RESPONSE], 'gold': row.get(GOLD)} for row in rows]"
    )


def key_list(keys: Iterable[str]) -> str:
    """The first keys of a row, in their order, for a message."""
    names = [str(key).encode("utf-8", "backslashreplace").decode()[:_MAX_NAME] for key in keys]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more if names else "(none)"


def _split_chat(messages: object) -> tuple[list[Any], list[Any]] | None:
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
