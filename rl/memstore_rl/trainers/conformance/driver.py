"""What a check needs to drive a hook: a step of training and an evaluation, as the hook's trainer makes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from memstore.errors import MemstoreError
from memstore_rl.trainers.hook_settings import PREFIX, TOKEN_VARIABLE, HookSettings


class GroupCase(NamedTuple):
    """A group of a check."""

    name: str
    """The group's id, unique within a step."""
    query: str
    completions: tuple[str, ...]
    gold: str | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt."""
        return [{"role": "user", "content": self.query}]

    def columns(self, split: str) -> dict[str, Any]:
        """What `memstore verl data` writes of a row, the prompt apart."""
        return {
            "data_source": "sums",
            "reward_model": {"style": "rule", "ground_truth": self.gold or ""},
            "extra_info": {"split": split, "domain": "math"},
        }


class Outcome(NamedTuple):
    """What the trainer got."""

    values: Mapping[str, Sequence[float]]
    """The rewards by the name of the group, in the order of its completions."""
    metrics: Mapping[str, float]
    """Numbers that the trainer logs, by name, without the prefix `memstore/`."""


class NotByHook(MemstoreError):
    """The trainer does this without the hook; the message says how."""


class HookDriver(Protocol):
    """Drives one hook."""

    trainer: str
    """Name of the trainer, as `memstore hook check` takes it."""
    against: str
    """What the hook is driven with: the trainer's own classes, or a recorded signature, with the version."""

    may_refuse: bool
    """Whether the setting `short` governs the hook."""

    def train(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """Make a step with these groups; the trainer's own failure is raised."""

    def evaluate(self, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        """Make an evaluation.

        Raises:
            NotByHook: the trainer evaluates without the hook.
        """


@contextmanager
def in_environment(settings: HookSettings) -> Iterator[None]:
    """Set the settings as variables, for hooks that a trainer loads by name; the old ones come back afterwards."""
    before = {name: value for name, value in os.environ.items() if name.startswith((PREFIX, TOKEN_VARIABLE))}
    values = settings.model_dump(exclude_unset=True, exclude={"token"})
    given = {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items() if value is not None}
    if settings.token is not None:
        given[TOKEN_VARIABLE] = settings.token.get_secret_value()
    _replace(before, given)
    try:
        yield
    finally:
        _replace(given, before)


def _replace(old: Mapping[str, str], new: Mapping[str, str]) -> None:
    for name in old:
        os.environ.pop(name, None)
    os.environ.update(new)
