"""Put prompts and completions together.

A memory keeps the thinking and the answer of a response, not the words between them, so a completion is written by a
template. Trainers apply a model's chat template to messages; texts are for base models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from memstore.errors import InputError

Message: TypeAlias = dict[str, str]
Content: TypeAlias = str | list[Message]
QUERY, THINKING, ANSWER = "{query}", "{thinking}", "{answer}"


@dataclass(frozen=True)
class Template:
    r"""How texts of training data look.

    Example:
        >>> Template(completion="<think>{thinking}</think>{answer}").completion_of("1 and 1", "2")
        [{'role': 'assistant', 'content': '<think>1 and 1</think>2'}]
    """

    completion: str = "{thinking}\n\n{answer}"
    """The completion, with `{thinking}` and `{answer}`, of which at least one stands in it."""
    prompt: str | None = None
    r"""The prompt, with `{query}`; None: `{query}`, and `{query}\n\n` with `plain`."""
    system: str | None = None
    """A system prompt, which becomes a message of its own."""
    plain: bool = False
    """Texts instead of messages."""

    def check(self) -> None:
        """Raise `InputError` if a template lacks what it is for, or a system prompt has no message to stand in."""
        if THINKING not in self.completion and ANSWER not in self.completion:
            raise InputError(
                f"the completion {self.completion!r} has neither {THINKING} nor {ANSWER}; write where they go"
            )
        if self.prompt is not None and QUERY not in self.prompt:
            raise InputError(f"the prompt {self.prompt!r} has no {QUERY}; write where the query goes")
        if self.plain and self.system is not None:
            raise InputError("a system prompt is a message and plain texts have none; write it into the prompt")

    def prompt_of(self, query: str) -> Content:
        """The prompt of a query."""
        template = self.prompt if self.prompt is not None else QUERY + ("\n\n" if self.plain else "")
        text = template.replace(QUERY, query)
        if self.plain:
            return text
        system = [_message("system", self.system)] if self.system is not None else []
        return [*system, _message("user", text)]

    def completion_of(self, thinking: str, answer: str) -> Content:
        """The completion of a rollout; blank space at its ends is removed."""
        # In one pass over the template: a thinking may contain "{answer}".
        parts = self.completion.split(THINKING)
        text = thinking.join(part.replace(ANSWER, answer) for part in parts).strip()
        return text if self.plain else [_message("assistant", text)]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}
