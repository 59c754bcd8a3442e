"""Prompts of a question, shared by all engines: chat messages, or plain text for completion."""

from __future__ import annotations

from memstore_rl.benchmarks.question import Question


def chat_messages(question: Question) -> list[dict[str, str]]:
    """The messages sent to a chat model: an optional system message and the user message."""
    system = [{"role": "system", "content": question.system}] if question.system else []
    return [*system, {"role": "user", "content": question.prompt or question.text}]


def prompt_text(question: Question) -> str:
    """The text to complete when no chat template is used."""
    text = question.prompt or question.text
    return f"{question.system}\n\n{text}" if question.system else text
