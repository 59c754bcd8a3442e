"""Build requests and parse responses of the OpenAI API, for chat and plain completions.

Servers follow the format more or less closely. Everything readable in a response is used: a choice without text is
skipped, and its sample is requested again. A response without any readable choice is a `MalformedResponse`. This module
does no I/O.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.engine import Sampling
from memstore_rl.rollout.prompts import chat_messages, prompt_text
from memstore_rl.rollout.sample_keys import sample_seed

MAX_MESSAGE_CHARS = 300
"""Characters of a server's error message that our error repeats."""


class MalformedResponse(Exception):
    """A response without a readable choice; the message says what is wrong with it."""


class Choice(NamedTuple):
    """One sample of a response."""

    text: str
    reasoning: str | None
    finish_reason: str | None
    mean_logprob: float | None
    tokens: int | None
    """Number of sampled tokens, where the log probabilities show it."""


class ParsedResponse(NamedTuple):
    """The readable content of a response."""

    choices: dict[int, Choice]
    """By position in the request: 0 is the first requested sample."""
    prompt_tokens: int | None
    completion_tokens: int | None
    """Of all choices together."""


def request_path(chat: bool) -> str:
    """Path of the request, below the endpoint's address."""
    return "/chat/completions" if chat else "/completions"


def request_body(
    question: Question, samples: Sequence[int], sampling: Sampling, model: str, *, logprobs: bool
) -> dict[str, Any]:
    """The request for consecutive samples of a question."""
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
        # For plain completions this is the number of alternatives; vLLM returns no log probabilities at all for 0.
        body["logprobs"] = True if sampling.chat else 1
    if sampling.chat:
        body["messages"] = chat_messages(question)
    else:
        body["prompt"] = prompt_text(question)
    return body


def parse_response(content: bytes, samples: int) -> ParsedResponse:
    """Parse the body of a successful response to a request for `samples` samples; further choices are ignored.

    Raises:
        MalformedResponse: no choice can be read.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MalformedResponse("the response is not JSON") from error
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list):
        raise MalformedResponse("the response has no choices")
    by_position = _by_position(choices, samples)
    if not by_position:
        raise MalformedResponse("no choice of the response has a text")
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return ParsedResponse(by_position, _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))


def _by_position(choices: Sequence[Any], samples: int) -> dict[int, Choice]:
    """Choices by their `index` if all indices are valid and distinct, else in the order of the response."""
    readable = [(each.get("index"), choice) for each in choices if isinstance(each, dict) and (choice := _choice(each))]
    indexed = {index: choice for index, choice in readable if type(index) is int and 0 <= index < samples}
    if len(indexed) == len(readable):
        return indexed
    return {position: choice for position, (_, choice) in enumerate(readable[:samples])}


def _choice(value: Mapping[str, Any]) -> Choice | None:
    """Parse a choice of a chat or plain completion; None if it has no text."""
    message = value.get("message")
    reasoning = None
    if isinstance(message, dict):
        reasoning = _text(message.get("reasoning")) or _text(message.get("reasoning_content"))
        text = _text(message.get("content"))
        if text is None and "content" in message and message["content"] is None:
            text = ""
    else:
        text = _text(value.get("text"))
    if text is None:
        return None
    logprobs = _token_logprobs(value.get("logprobs"))
    mean = math.fsum(logprobs) / len(logprobs) if logprobs else None
    return Choice(
        text=text,
        reasoning=reasoning,
        finish_reason=_text(value.get("finish_reason")),
        mean_logprob=mean if mean is not None and math.isfinite(mean) else None,
        tokens=len(logprobs) or None,
    )


def _token_logprobs(value: object) -> list[float]:
    """The log probability of each sampled token, from a chat's `content` or a completion's `token_logprobs`."""
    if not isinstance(value, dict):
        return []
    tokens = value.get("content")
    if isinstance(tokens, list):
        logprobs = [token.get("logprob") if isinstance(token, dict) else None for token in tokens]
    else:
        listed = value.get("token_logprobs")
        logprobs = listed if isinstance(listed, list) else []
    numbers = [number for number in logprobs if isinstance(number, int | float)]
    return numbers if len(numbers) == len(logprobs) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def error_message(content: bytes) -> str:
    """The server's error message from the body of an error response, as one short line."""
    text = content[: 16 * MAX_MESSAGE_CHARS].decode("utf-8", "replace")
    try:
        message: Any = json.loads(content)
        for name in ("error", "message"):
            message = message.get(name, message) if isinstance(message, dict) else message
        if isinstance(message, dict):
            message = message.get("detail", message)
        text = message if isinstance(message, str) else text
    except (ValueError, RecursionError):
        pass
    text = " ".join(text.split())
    return (text if len(text) <= MAX_MESSAGE_CHARS else text[:MAX_MESSAGE_CHARS] + "…") or "no reason given"
