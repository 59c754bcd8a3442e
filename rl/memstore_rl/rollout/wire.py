"""OpenAI's form, both ways: what is sent for samples of a question, and what an answer says.

Servers differ in how closely they keep to the form. Of an answer, whatever can be read is taken: a choice without text
is left out, as if it had not come, and the sample is asked for again. An answer of which nothing can be read is
`Malformed`. Nothing here sends anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.asking import messages, prompt, sample_seed
from memstore_rl.rollout.engine import Sampling

LONGEST_REASON = 300
"""Characters of a server's own words that an error repeats."""


class Malformed(Exception):
    """An answer with nothing in it that can be read; the message says what is wrong."""


class Choice(NamedTuple):
    """One sample, as the server gave it."""

    text: str
    reasoning: str | None
    finish_reason: str | None
    mean_logprob: float | None
    tokens: int | None
    """Sampled tokens, where the log probabilities show how many."""


class Answered(NamedTuple):
    """What a server answered."""

    choices: dict[int, Choice]
    """By place in the request: 0 is the first sample that it asked for."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """Of all choices together."""


def request_path(chat: bool) -> str:
    """Where samples are asked for, below the endpoint."""
    return "/chat/completions" if chat else "/completions"


def request_body(
    question: Question, samples: Sequence[int], sampling: Sampling, model: str, *, logprobs: bool
) -> dict[str, Any]:
    """The request for samples that follow each other."""
    body: dict[str, Any] = {
        "model": model,
        "n": len(samples),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.seed is not None:
        body["seed"] = sample_seed(sampling.seed, question, samples[0])
    if logprobs:
        # Of a completion it is how many alternatives are told; vLLM takes 0 for none at all.
        body["logprobs"] = True if sampling.chat else 1
    if sampling.chat:
        body["messages"] = messages(question)
    else:
        body["prompt"] = prompt(question)
    return body


def read_answer(content: bytes, samples: int) -> Answered:
    """What a good answer holds for so many samples; choices beyond that are left out.

    Raises:
        Malformed: there is no choice that can be read.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed("the answer is no JSON") from error
    given = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(given, list):
        raise Malformed("the answer has no choices")
    choices = _placed(given, samples)
    if not choices:
        raise Malformed("no choice of the answer has a text")
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Answered(choices, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def _placed(given: Sequence[Any], samples: int) -> dict[int, Choice]:
    """Choices by their index where the indices can be, else by their order."""
    readable = [(each.get("index"), choice) for each in given if isinstance(each, dict) and (choice := _choice(each))]
    placed = {index: choice for index, choice in readable if type(index) is int and 0 <= index < samples}
    if len(placed) == len(readable):
        return placed
    return {place: choice for place, (_, choice) in enumerate(readable[:samples])}


def _choice(given: Mapping[str, Any]) -> Choice | None:
    """A choice of either form; None where it has no text."""
    message = given.get("message")
    reasoning = None
    if isinstance(message, dict):
        reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
        text = _text(message.get("content"))
        if text is None and "content" in message and message["content"] is None:
            text = ""
    else:
        text = _text(given.get("text"))
    if text is None:
        return None
    sampled = _sampled_logprobs(given.get("logprobs"))
    mean = math.fsum(sampled) / len(sampled) if sampled else None
    return Choice(
        text=text,
        reasoning=reasoning,
        finish_reason=_text(given.get("finish_reason")),
        mean_logprob=mean if mean is not None and math.isfinite(mean) else None,
        tokens=len(sampled) or None,
    )


def _sampled_logprobs(given: object) -> list[float]:
    """The log probability of each sampled token, of a chat's `content` or a completion's `token_logprobs`."""
    if not isinstance(given, dict):
        return []
    tokens = given.get("content")
    if isinstance(tokens, list):
        values = [token.get("logprob") if isinstance(token, dict) else None for token in tokens]
    else:
        listed = given.get("token_logprobs")
        values = listed if isinstance(listed, list) else []
    numbers = [value for value in values if isinstance(value, int | float)]
    return numbers if len(numbers) == len(values) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def server_words(content: bytes) -> str:
    """What a server says of an error, as one short line."""
    text = content[: 16 * LONGEST_REASON].decode("utf-8", "replace")
    try:
        said: Any = json.loads(content)
        for name in ("error", "message"):
            said = said.get(name, said) if isinstance(said, dict) else said
        if isinstance(said, dict):
            said = said.get("detail", said)
        text = said if isinstance(said, str) else text
    except (ValueError, RecursionError):
        pass
    text = " ".join(text.split())
    return (text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…") or "no reason given"
