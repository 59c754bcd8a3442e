"""An engine that samples from an OpenAI-compatible endpoint, such as vLLM's server.

One request asks for all consecutive samples of a question. Outcomes:

    all choices returned          the samples
    some choices returned         those samples, and another request for the rest
    nothing readable              retried, like any `RetryableFailure`
    rejected, with n > 1          the samples are requested one by one; if that works, all later ones too
    rejected                      no sample; the reply carries the server's message (prompt too long, for example)

A question whose retries are used up gives replies without text, with the reason. The run ends when continuing is
pointless: the server is gone, or as many questions in a row fail as there are concurrent requests, and at least 16.
Rejections end it only while no request has succeeded, since a file may contain many prompts that are too long.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import replace

from pydantic import SecretStr

from memstore.runtime.retry import RetryPolicy
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.batching import Put, batches
from memstore_rl.rollout.engine import Reply, SampleRequest, Sampling, Usage
from memstore_rl.rollout.http_client import EndpointClient, EndpointError, RequestRejected, RetryableFailure, base_url
from memstore_rl.rollout.openai_format import (
    MalformedResponse,
    ParsedResponse,
    parse_response,
    request_body,
    request_path,
)
from memstore_rl.rollout.rate_limit import RateLimiter

RETRIES = RetryPolicy(attempts=8)
"""Retries of one request; a response with at least one sample starts the count anew."""
TIMEOUT_S = 600.0
"""Limit of one try, from the first byte sent to the last byte received, in seconds."""
_MAX_PROBES = 3
"""Failed probes after which the run ends because the server is gone."""
_MIN_FAILURES_IN_A_ROW = 16


class EndpointEngine:
    """Samples from one model behind an endpoint; see the module."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        policy: str | None = None,
        key: SecretStr | None = None,
        concurrency: int = 64,
        rate: float | None = None,
        retry_policy: RetryPolicy = RETRIES,
        timeout_s: float = TIMEOUT_S,
        logprobs: bool = True,
    ) -> None:
        """Create the engine; this sends nothing.

        Args:
            endpoint: address such as `http://127.0.0.1:8000`, with or without `/v1`.
            model: the model's name on the server.
            policy: the policy's name in records; None: the model's name.
            key: API key, sent as a bearer token; it appears in no message.
            concurrency: limit of concurrent requests.
            rate: limit of requests per second, retries included.
            retry_policy: retries of a request.
            timeout_s: limit of one try.
            logprobs: request log probabilities; some servers reject that.

        Raises:
            InputError: the endpoint is not an HTTP address.
        """
        self.url = base_url(endpoint)
        self.model = policy or model
        self.served_model = model
        self.usage = Usage()
        self.concurrency = concurrency
        self.rate = rate
        self.retry_policy = retry_policy
        self.timeout_s = timeout_s
        self.logprobs = logprobs
        self._key = key

    async def generate(self, requests: Iterable[SampleRequest], sampling: Sampling) -> AsyncIterator[Reply]:
        """See `Engine.generate`; without requests it does not contact the server.

        Raises:
            EndpointError: see the module.
        """
        waiting = iter(requests)
        first = next(waiting, None)
        if first is None:
            return
        async with EndpointClient(
            self.url, self.served_model, self._key, timeout_s=self.timeout_s, connections=self.concurrency
        ) as client:
            run = _EndpointRun(self, client, sampling)
            await run.check_reachable()

            async def work(put: Put[Reply]) -> None:
                await run.answer_all(itertools.chain([first], waiting), put)

            async with aclosing(batches(work, max_items=2 * self.concurrency)) as reply_batches:
                async for batch in reply_batches:
                    for reply in batch:
                        yield reply


class _EndpointRun:
    """The state of one call of `generate`."""

    def __init__(self, engine: EndpointEngine, client: EndpointClient, sampling: Sampling) -> None:
        self._engine = engine
        self._client = client
        self._sampling = sampling
        self._usage = engine.usage
        self._rate_limiter = RateLimiter(engine.rate)
        self._path = request_path(sampling.chat)
        self._one_by_one = False
        self._failures_in_a_row = 0
        self._any_success = False

    async def check_reachable(self) -> None:
        """Probe the server, with retries.

        Raises:
            EndpointError: the server does not respond, or refuses the key.
        """
        policy = replace(self._engine.retry_policy, attempts=_MAX_PROBES)
        try:
            await policy.call_async(self._client.probe, retryable=_is_retryable)
        except RetryableFailure as error:
            raise EndpointError(
                f"cannot reach a server at {self._engine.url} ({error}); start the server or correct the address, and "
                "run the same command again to resume"
            ) from error

    async def answer_all(self, requests: Iterable[SampleRequest], put: Put[Reply]) -> None:
        """Put a reply for every sample of every request."""

        async def work() -> None:
            for request in requests:
                await self._answer(request, put)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._engine.concurrency):
                    workers.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _answer(self, request: SampleRequest, put: Put[Reply]) -> None:
        """Request the samples of one question until all have arrived or the question is given up."""
        wanted, one_by_one = list(request.samples), False
        while wanted:
            samples = wanted[:1] if one_by_one or self._one_by_one else _consecutive(wanted)
            try:
                response = await self._send_with_retries(request.question, samples)
            except RequestRejected as error:
                if len(samples) == 1:
                    await self._give_up(request.question, wanted, str(error), put, rejected=True)
                    return
                one_by_one = True
            except RetryableFailure as error:
                if error.unreachable:
                    await self.check_reachable()
                await self._give_up(request.question, wanted, f"{error} ({error.tries} tries)", put, rejected=False)
                return
            else:
                self._failures_in_a_row, self._any_success = 0, True
                self._one_by_one |= one_by_one
                for reply in _replies(request.question, samples, response):
                    wanted.remove(reply.sample)
                    await put(reply)

    async def _send_with_retries(self, question: Question, samples: Sequence[int]) -> ParsedResponse:
        tries = 0

        async def send() -> ParsedResponse:
            nonlocal tries
            tries += 1
            self._usage.retries += tries > 1
            return await self._send(question, samples)

        try:
            return await self._engine.retry_policy.call_async(
                send, retryable=_is_retryable, hint_s=lambda error: getattr(error, "retry_after_s", None)
            )
        except RetryableFailure as error:
            error.tries = tries
            raise

    async def _send(self, question: Question, samples: Sequence[int]) -> ParsedResponse:
        body = request_body(
            question, samples, self._sampling, self._engine.served_model, logprobs=self._engine.logprobs
        )
        await self._rate_limiter.wait()
        self._usage.requests += 1
        content = await self._client.post(self._path, body)
        try:
            response = parse_response(content, len(samples))
        except MalformedResponse as error:
            raise RetryableFailure(str(error)) from error
        self._usage.prompt_tokens += response.prompt_tokens or 0
        self._usage.completion_tokens += response.completion_tokens or 0
        return response

    async def _give_up(
        self, question: Question, samples: Iterable[int], reason: str, put: Put[Reply], *, rejected: bool
    ) -> None:
        """Put replies that carry the reason.

        Raises:
            EndpointError: so many questions failed in a row that the endpoint must be the cause.
        """
        for sample in samples:
            await put(Reply(question=question, sample=sample, error=reason))
        self._failures_in_a_row += 1
        limit = max(_MIN_FAILURES_IN_A_ROW, self._engine.concurrency)
        if self._failures_in_a_row >= limit and not (rejected and self._any_success):
            raise EndpointError(
                f"{self._failures_in_a_row} questions in a row failed at {self._engine.url}, the last one with: "
                f"{reason}; fix the cause, and run the same command again to resume"
            )


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, RetryableFailure)


def _replies(question: Question, samples: Sequence[int], response: ParsedResponse) -> list[Reply]:
    single = response.completion_tokens if len(response.choices) == 1 else None
    return [
        Reply(
            question=question,
            sample=samples[position],
            text=choice.text,
            reasoning=choice.reasoning,
            finish_reason=choice.finish_reason,
            mean_logprob=choice.mean_logprob,
            prompt_tokens=response.prompt_tokens,
            completion_tokens=single if single is not None else choice.tokens,
        )
        for position, choice in response.choices.items()
    ]


def _consecutive(samples: Sequence[int]) -> list[int]:
    """The leading samples with consecutive indices; one request gives them consecutive seeds."""
    pairs = zip(samples, itertools.count(samples[0]), strict=False)
    return [sample for sample, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
