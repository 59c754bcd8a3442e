"""What answers questions: an endpoint that speaks OpenAI's form, or vLLM in this process.

An engine is handed asks, each a question and the indices of the samples that are wanted of it, and gives back one reply
for each sample, in any order. It does its own batching, retries and limits; it never writes. What could not be had is a
reply too, with the reason: an engine raises only where going on has no sense (no server, no such model).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Protocol

from memstore_rl.benchmarks.question import Question


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn. Part of a rollout's key: other parameters are other rollouts."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int | None = None
    """Each sample is drawn with a seed derived from this, its question and its index (`sample_seed` of
    `memstore_rl.rollout.asking`); None: unseeded."""
    chat: bool = True
    """Through the model's chat template; False: the prompt is completed as it stands."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A question and which samples of it are wanted."""

    question: Question
    samples: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """One sample of one question, or why there is none."""

    question: Question
    sample: int
    text: str | None = None
    """What the model wrote, without `reasoning`; None: there is no sample, and `error` says why."""
    reasoning: str | None = None
    """What the server gave as the model's reasoning, apart from the text; None: it gave none."""
    finish_reason: str | None = None
    """`stop`, `length` (cut off: no answer is guessed), or what the server says."""
    mean_logprob: float | None = None
    """Mean log probability of the sampled tokens, natural logarithm; None: the server gave none."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    """One sentence."""


@dataclass(slots=True)
class Usage:
    """What an engine has used since it was made."""

    requests: int = 0
    """Requests or prompts that were sent, those that were sent again among them."""
    retries: int = 0
    prompt_tokens: int = 0
    """A prompt that is asked for n samples at once counts once."""
    completion_tokens: int = 0


class Engine(Protocol):
    """Answers questions with one model."""

    model: str
    """The policy's name, as records hold it."""
    usage: Usage

    def generate(self, asks: Iterable[Ask], sampling: Sampling) -> AsyncIterator[Reply]:
        """A reply for every sample of every ask, as they come; asks are taken from the iterable as there is room.

        Raises:
            MemstoreError: nothing can be had from this engine (no server, no such model, the key is refused).
        """
        ...
