"""Placeholders of the commands in a plan: `{checkpoint}`, `{train}`, `{port}`.

Braces with any other content are left as they are, such as those of the shell (`${HOME}`) and of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

_WORD = re.compile(r"(?<!\$)\{([a-z_]+)\}")

POLICY_WORDS = ("plan", "port", "model", "policy")
"""Placeholders of `serve` of a policy: the plan's folder, the port to listen on, the model, the policy's name."""
CHECKPOINT_WORDS = ("plan", "port", "policy", "run", "checkpoint")
"""Placeholders of `[checkpoints]`."""
TRAINING_WORDS = (
    "plan", "policy", "model", "run", "mode", "train", "validation", "memory", "reward_model", "overrides", "settings",
    "checkpoint", "work", "n", "batch_size", "epochs", "seed",
)  # fmt: skip
"""Placeholders of a training's command; docs/reproduce.md says what each stands for."""


def check_words(key: str, text: str, words: Collection[str]) -> None:
    """Refuse an unknown placeholder.

    Raises:
        ValueError: there is one.
    """
    for name in _WORD.findall(text):
        if name not in words:
            raise ValueError(f"{key} has the placeholder {{{name}}}; use {', '.join(f'{{{word}}}' for word in words)}")


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with these placeholders replaced."""
    return _WORD.sub(lambda found: values.get(found[1], found[0]), text)
