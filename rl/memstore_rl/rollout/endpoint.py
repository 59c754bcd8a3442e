"""The engine that asks an endpoint in OpenAI's form: vLLM's server above all, and whatever speaks like it.

A request asks for all samples of a question that follow each other. What becomes of its answer:

    all choices there             the samples
    some choices there            those, and another request for the others
    nothing that can be read      tried again, as what `Unanswered` says
    refused, with n > 1           the samples one by one, and so from then on if that helps
    refused                       no sample, and the server's words (a prompt that is too long, say)

A question whose tries are used up gives replies without text, with the reason. The run ends where going on has no
sense: nobody is there any more; or one question after the other fails, as many as are asked at once and at least 16.
Refusals end it only as long as nothing was answered: a file may well hold many prompts that are too long.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing

from pydantic import SecretStr

from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.engine import Ask, Reply, Sampling, Usage
from memstore_rl.rollout.exchange import EndpointError, Exchange, Refused, Unanswered, base_url
from memstore_rl.rollout.retry_policy import Patience, Rate
from memstore_rl.rollout.stream import Put, batches
from memstore_rl.rollout.wire import Answered, Malformed, read_answer, request_body, request_path

_GREETINGS = 3
"""Looks whether somebody is there, before the run ends because nobody is."""
_IN_A_ROW = 16


class EndpointEngine:
    """Asks one model behind an endpoint; see the module."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        *,
        policy: str | None = None,
        key: SecretStr | None = None,
        concurrency: int = 64,
        rate: float | None = None,
        patience: Patience | None = None,
        logprobs: bool = True,
    ) -> None:
        """Nothing is sent yet.

        Args:
            endpoint: such as `http://127.0.0.1:8000`, with or without `/v1`.
            model: the name under which the server has it.
            policy: the name under which records hold it; None: the same.
            key: sent as a bearer token; no message of this engine holds it.
            concurrency: requests that are under way at once.
            rate: requests a second at most, those that are sent again included.
            logprobs: ask for log probabilities; some servers refuse that.

        Raises:
            InputError: the endpoint is no address.
        """
        self.url = base_url(endpoint)
        self.model = policy or model
        self.served = model
        self.usage = Usage()
        self.concurrency = concurrency
        self.rate = rate
        self.patience = patience or Patience()
        self.logprobs = logprobs
        self._key = key

    async def generate(self, asks: Iterable[Ask], sampling: Sampling) -> AsyncIterator[Reply]:
        """See `Engine.generate`; where nothing is asked, nothing is sent.

        Raises:
            EndpointError: as the module says.
        """
        waiting = iter(asks)
        first = next(waiting, None)
        if first is None:
            return
        async with Exchange(self.url, self.served, self._key, self.patience, self.concurrency) as exchange:
            requests = _Requests(self, exchange, sampling)
            await requests.greet()

            async def work(put: Put[Reply]) -> None:
                await requests.answer_all(itertools.chain([first], waiting), put)

            async with aclosing(batches(work, room=2 * self.concurrency)) as gathered:
                async for batch in gathered:
                    for reply in batch:
                        yield reply


class _Requests:
    """The requests of one run."""

    def __init__(self, engine: EndpointEngine, exchange: Exchange, sampling: Sampling) -> None:
        self._engine = engine
        self._exchange = exchange
        self._sampling = sampling
        self._usage = engine.usage
        self._patience = engine.patience
        self._rate = Rate(engine.rate)
        self._path = request_path(sampling.chat)
        self._one_by_one = False
        self._failed_in_a_row = 0
        self._anything = False

    async def greet(self) -> None:
        """See that somebody is there.

        Raises:
            EndpointError: nobody is, or not for us.
        """
        for failed in range(1, _GREETINGS + 1):
            if await self._exchange.is_there():
                return
            await asyncio.sleep(self._patience.pause_s(failed, None))
        raise EndpointError(
            f"nobody answers at {self._engine.url} ({self._exchange.reason}); start the server, or correct its "
            "address: what was done is kept"
        )

    async def answer_all(self, asks: Iterable[Ask], put: Put[Reply]) -> None:
        """Put a reply for every sample of every ask."""

        async def work() -> None:
            for ask in asks:
                await self._answer(ask, put)

        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(self._engine.concurrency):
                    workers.create_task(work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _answer(self, ask: Ask, put: Put[Reply]) -> None:
        """Ask for what is wanted until it is there, or given up."""
        wanted, failed, one_by_one = list(ask.samples), 0, False
        while wanted:
            samples = wanted[:1] if one_by_one or self._one_by_one else _first_row(wanted)
            try:
                answered = await self._request(ask.question, samples)
            except Refused as error:
                if len(samples) == 1:
                    await self._give_up(ask.question, wanted, str(error), put, refused=True)
                    return
                one_by_one = True
            except Unanswered as error:
                failed += 1
                if failed >= self._patience.tries:
                    if error.gone:
                        await self.greet()
                    await self._give_up(ask.question, wanted, f"{error} ({failed} tries)", put, refused=False)
                    return
                await asyncio.sleep(self._patience.pause_s(failed, error.hint_s))
                self._usage.retries += 1
            else:
                failed, self._failed_in_a_row, self._anything = 0, 0, True
                self._one_by_one |= one_by_one
                for reply in _replies(ask.question, samples, answered):
                    wanted.remove(reply.sample)
                    await put(reply)

    async def _request(self, question: Question, samples: Sequence[int]) -> Answered:
        body = request_body(question, samples, self._sampling, self._engine.served, logprobs=self._engine.logprobs)
        await self._rate.turn()
        self._usage.requests += 1
        content = await self._exchange.post(self._path, body)
        try:
            answered = read_answer(content, len(samples))
        except Malformed as error:
            raise Unanswered(str(error)) from error
        self._usage.prompt_tokens += answered.prompt_tokens or 0
        self._usage.completion_tokens += answered.completion_tokens or 0
        return answered

    async def _give_up(
        self, question: Question, samples: Iterable[int], reason: str, put: Put[Reply], *, refused: bool
    ) -> None:
        """Put replies that say why there is none.

        Raises:
            EndpointError: it is not this question, it is the endpoint.
        """
        for sample in samples:
            await put(Reply(question=question, sample=sample, error=reason))
        self._failed_in_a_row += 1
        limit = max(_IN_A_ROW, self._engine.concurrency)
        if self._failed_in_a_row >= limit and not (refused and self._anything):
            raise EndpointError(
                f"{self._failed_in_a_row} questions in a row got no answer from {self._engine.url}, the last one for "
                f"this: {reason}; mend that, and run the same command again: what was done is kept"
            )


def _replies(question: Question, samples: Sequence[int], answered: Answered) -> list[Reply]:
    alone = answered.completion_tokens if len(answered.choices) == 1 else None
    return [
        Reply(
            question=question,
            sample=samples[place],
            text=choice.text,
            reasoning=choice.reasoning,
            finish_reason=choice.finish_reason,
            mean_logprob=choice.mean_logprob,
            prompt_tokens=answered.prompt_tokens,
            completion_tokens=alone if alone is not None else choice.tokens,
        )
        for place, choice in answered.choices.items()
    ]


def _first_row(samples: Sequence[int]) -> list[int]:
    """The samples from the first on that follow each other: one request seeds them one after the other."""
    row = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(samples, itertools.count(samples[0]), strict=False))
    return [sample for sample, _ in row]
