"""A step of a reproduction: one shell command, what it depends on, and what it writes."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Estimate:
    """What a step is expected to cost; zero is nothing worth mentioning."""

    calls: int = 0
    """Responses that the endpoint samples."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    """Time on this machine or at the endpoint."""
    gpu_hours: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
            self.gpu_hours + other.gpu_hours,
        )


@dataclass(frozen=True)
class Server:
    """A server that runs while its step runs."""

    command: str
    """Shell command; `{port}` is still in it."""
    endpoint: str
    """Its address; `{port}` is still in it."""


@dataclass(frozen=True)
class Step:
    """One command. It runs in the reproduction's folder, to which all its paths are relative."""

    name: str
    """Unique, with slashes: `qwen/memory-20/training`."""
    command: str
    identity: str
    """The part of the command that its results depend on: not where a server is, or how fast it is asked."""
    needs: tuple[str, ...] = ()
    """Names of the steps before it."""
    outputs: tuple[str, ...] = ()
    resumes: bool = False
    """Whether the command continues what an interrupted one has written; else its outputs are removed first."""
    scratch: tuple[str, ...] = ()
    """Paths of its command's own files, which are kept until the step is to be done again."""
    server: Server | None = None
    gpu: bool = False
    """Whether the command needs a GPU."""
    brought: tuple[str, ...] = ()
    """Paths of which one is enough to make the step done, if something else than this step wrote it. A step that
    resumes is done by them only where it cannot run: elsewhere it completes them."""
    requires: tuple[str, ...] = ()
    """Paths without which the step cannot run."""
    estimate: Estimate = field(default_factory=Estimate)

    @property
    def port_needed(self) -> bool:
        """Whether a port is to be chosen."""
        return self.server is not None and "{port}" in self.server.command + self.server.endpoint


def fingerprints(steps: Iterable[Step]) -> dict[str, str]:
    """A digest of each step by name: of its identity and of the steps that it needs."""
    found: dict[str, str] = {}
    for step in steps:
        parts = [step.identity, *(found[name] for name in step.needs)]
        found[step.name] = hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()
    return found


def memstore(verb: str, *words: object) -> str:
    """A command line of memstore. A `Raw` word is left to the shell."""
    return " ".join(
        ["memstore", verb, *(str(word) if isinstance(word, Raw) else shlex.quote(str(word)) for word in words)]
    )


class Raw(str):
    """A word that the shell expands."""

    __slots__ = ()


def options(values: Mapping[str, object]) -> list[object]:
    """Options with their values as words: None and False are left out, True has no value, a list repeats its option."""
    words: list[object] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        for each in value if isinstance(value, Sequence) and not isinstance(value, str) else (value,):
            words += [name] if each is True else [name, each]
    return words
