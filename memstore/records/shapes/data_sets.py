"""Shapes of data sets: several generations a row, conversations, instructions, and tables in one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from memstore.errors import RecordError
from memstore.records.shapes.shape import Found, RowValues, Shape, at, rollout

_QUESTIONS = ("problem", "question", "prompt")
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "model": "assistant",
    "system": "system", "tool": "tool", "observation": "tool", "function_response": "tool",
    "function_call": "assistant",
}  # fmt: skip
"""Speakers of ShareGPT and LLaMA-Factory as roles."""


def _generations(values: RowValues) -> Iterator[Found]:
    """OpenR1: several generations a row, with a verdict and a reason of ending for each."""
    generations = values["generations"]
    question = next(values[key] for key in _QUESTIONS if values.get(key))
    for index, text in enumerate(generations):
        yield rollout(
            question,
            text,
            gold=values.get("answer"),
            reward=_of(values.get("correctness_math_verify"), index, generations),
            correctness_llama=_of(values.get("correctness_llama"), index, generations),
            finish_reason=_of(values.get("finish_reasons"), index, generations),
            sample_index=index,
        )


def _of(values: object, index: int, generations: list[Any]) -> Any:
    """The value for a generation, of a list with one for each; None without such a list."""
    return at(values, index) if isinstance(values, list) and len(values) == len(generations) else None


def _is_generations(values: RowValues) -> bool:
    return isinstance(values["generations"], list) and any(values.get(key) for key in _QUESTIONS)


def _conversations(values: RowValues) -> Iterator[Found]:
    """ShareGPT: turns of `from` and `value`, or messages under another name."""
    messages = [{"role": "system", "content": values["system"]}] if values.get("system") else []
    messages += [_message(turn) for turn in values["conversations"]]
    roles = [message["role"] for message in messages]
    if "user" not in roles or roles[-1] == "user":
        raise RecordError("the conversation has no reply to a user")
    last = len(roles) - 1 - roles[::-1].index("user")
    yield rollout(messages[: last + 1], messages[last + 1 :], gold=values.get("answer"), reward=values.get("reward"))


def _message(turn: Mapping[str, Any]) -> dict[str, Any]:
    if "role" in turn:
        return dict(turn)
    role = _ROLES.get(turn["from"])
    if role is None:
        raise RecordError(f"the conversation has the speaker {turn['from']!r:.40}; known are {', '.join(_ROLES)}")
    return {"role": role, "content": turn["value"]}


def _alpaca(values: RowValues) -> Iterator[Found]:
    question = "\n".join(text for text in (values["instruction"], values.get("input")) if text)
    yield rollout(question, values["output"], gold=values.get("answer"), reward=values.get("reward"))


def _is_alpaca(values: RowValues) -> bool:
    return isinstance(values["instruction"], str) and isinstance(values["output"], str) and "gts" not in values


def _is_list_of_objects(values: RowValues) -> bool:
    turns = values["conversations"]
    return isinstance(turns, list) and bool(turns) and all(isinstance(turn, Mapping) for turn in turns)


DATA_SET_SHAPES = (
    Shape(
        "several generations a row",
        frozenset(["generations"]),
        _generations,
        frozenset([*_QUESTIONS, "answer", "correctness_math_verify", "correctness_llama", "finish_reasons"]),
        _is_generations,
    ),
    Shape(
        "conversations",
        frozenset(["conversations"]),
        _conversations,
        frozenset(["system", "answer", "reward"]),
        _is_list_of_objects,
        is_exclusive=False,
    ),
    Shape(
        "instruction, input, output",
        frozenset(["instruction", "output"]),
        _alpaca,
        frozenset(["input", "answer", "reward"]),
        _is_alpaca,
        is_exclusive=False,
    ),
)
"""Shapes of data sets that need a conversion; the others are those of `memstore.records.adapters`."""
