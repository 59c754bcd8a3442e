"""The protocol of an engine: a model behind an OpenAI-compatible endpoint, or vLLM in this process.

An engine receives sample requests (a question and the indices of the wanted samples) and yields one reply for each
sample, in any order. It handles batching, retries and rate limits itself and writes no files. A sample that could not
be drawn is a reply with `error` set. An engine raises only when no request can succeed, for example because there is no
server or no such model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol

from memstore_rl.benchmarks.question import Question


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters. They are part of a rollout's key: other parameters give other rollouts."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int | None = None
    """Base seed: each sample's own seed is derived from it, the question and the sample index (`sample_seed` of
    `memstore_rl.rollout.sample_keys`). None: unseeded."""
    chat: bool = True
    """Apply the model's chat template; False: complete the prompt as plain text."""


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A question and the indices of the samples to draw for it."""

    question: Question
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One sample of one question, or the reason why it could not be drawn."""

    question: Question
    sample: int
    text: str | None = None
    """The generated text without `reasoning`; None: there is no sample, see `error`."""
    reasoning: str | None = None
    """The reasoning, where the server returns it separately from the text."""
    finish_reason: str | None = None
    """`stop`, `length` (truncated), or another value from the server."""
    mean_logprob: float | None = None
    """Mean log probability of the sampled tokens, natural logarithm; None if the server returned none."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    """One sentence."""


@dataclass(slots=True)
class Usage:
    """Requests and tokens that an engine has used since it was created."""

    requests: int = 0
    """Requests or prompts sent, retries included."""
    retries: int = 0
    prompt_tokens: int = 0
    """A prompt sampled n times in one request counts once."""
    completion_tokens: int = 0


class Engine(Protocol):
    """Samples replies from one model."""

    model: str
    """The policy's name in records."""
    usage: Usage

    def generate(self, requests: Iterable[SampleRequest], sampling: Sampling) -> AsyncIterator[Reply]:
        """Yield a reply for every sample of every request, as they finish.

        Requests are taken from the iterable only when there is capacity for them.

        Raises:
            MemstoreError: no request can succeed (no server, no such model, key refused).
        """
        ...
