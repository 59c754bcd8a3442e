"""The engine that asks an endpoint in OpenAI's form: vLLM's server above all, and whatever speaks like it.

A request asks for all samples of a question that follow each other. What becomes of its answer:

    good, all choices there       the samples
    good, some choices there      those, and another request for the others
    good, nothing to be read      tried again
    408, 409, 425, 429, 5xx       tried again, after what Retry-After says
    no connection, cut, no time   tried again; where nobody answers any more: EndpointError
    401, 403, 404, a redirect     EndpointError: no request will fare better
    any other 4xx with n > 1      the samples one by one, and so from then on if that helps
    any other 4xx                 no sample, and the server's words (a prompt that is too long, say)

A request whose tries are used up gives replies without text. Many of them in a row end the run: see `_Verdicts`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing, suppress
from urllib.parse import urlsplit

import aiohttp
from pydantic import SecretStr

from memstore.errors import InputError, MemstoreError
from memstore_rl.question import Question
from memstore_rl.rollout.engine import Ask, Reply, Sampling, Usage
from memstore_rl.rollout.pace import Patience, Rate, retry_after_s
from memstore_rl.rollout.stream import Put, batches
from memstore_rl.rollout.wire import Answered, Malformed, read_answer, request_body, request_path, server_words

_AGAIN = frozenset({408, 409, 425, 429})
_CONNECT_S = 20.0
_GREETINGS = 3
"""Tries of the first request, which only looks whether somebody is there."""
_IN_A_ROW = 16
"""Questions that may fail one after the other before the run ends; the requests under way at once, if they are more."""
_NAMED_MODELS = 5


class EndpointError(MemstoreError):
    """The endpoint cannot be had, or takes none of these requests."""


class _Refused(Exception):
    """The server will not answer this request, however often it is sent."""


class _Unanswered(Exception):
    """A try that failed and may fare better later."""

    def __init__(self, reason: str, *, gone: bool = False, hint_s: float | None = None) -> None:
        super().__init__(reason)
        self.gone = gone
        """There may be no server any more."""
        self.hint_s = hint_s


def base_url(endpoint: str) -> str:
    """An endpoint as it was given, as the address that paths are put behind.

    Raises:
        InputError: it is no address.
    """
    parts = urlsplit(endpoint.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{endpoint!r} is no address of an endpoint; it looks like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("an endpoint's address has no user, password or query; give the key in a file")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/completions"):
        path = path.removesuffix(ending)
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


class EndpointEngine:
    """Asks one model behind an endpoint; see the module. Its requests of one `generate` share their connections."""

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
        """
        self.url = base_url(endpoint)
        self.model = policy or model
        self.served = model
        self.usage = Usage()
        self.key = key
        self.concurrency = concurrency
        self.rate = rate
        self.patience = patience or Patience()
        self.logprobs = logprobs

    async def generate(self, asks: Iterable[Ask], sampling: Sampling) -> AsyncIterator[Reply]:
        """See `Engine.generate`.

        Raises:
            EndpointError: as the module says.
        """
        waiting = iter(asks)
        first = next(waiting, None)
        if first is None:
            return
        headers = {"Content-Type": "application/json"}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key.get_secret_value()}"
        timeout = aiohttp.ClientTimeout(total=self.patience.timeout_s, sock_connect=_CONNECT_S)
        connector = aiohttp.TCPConnector(limit=self.concurrency)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as http:
            requests = _Requests(self, http, sampling)
            await requests.greet()

            async def work(put: Put[Reply]) -> None:
                await requests.answer_all(itertools.chain([first], waiting), put)

            async with aclosing(batches(work, room=2 * self.concurrency)) as gathered:
                async for batch in gathered:
                    for reply in batch:
                        yield reply


class _Verdicts:
    """When failures are the endpoint's, so that going on has no sense.

    A question that failed because nobody could be reached ends the run if nothing at all was answered since its first
    try. Any others do when there are `row` of them, one after the other; refusals only as long as nothing has been
    answered, since a file may well hold many prompts that are too long.
    """

    def __init__(self, url: str, row: int) -> None:
        self._url = url
        self._limit = row
        self._failed = 0
        self._answered_at: float | None = None

    def answered(self) -> None:
        """Something was answered."""
        self._failed = 0
        self._answered_at = time.monotonic()

    def failed(self, reason: str, *, since: float, gone: bool, refused: bool) -> None:
        """A question was given up.

        Raises:
            EndpointError: it is the endpoint.
        """
        self._failed += 1
        if gone and (self._answered_at is None or self._answered_at < since):
            raise EndpointError(
                f"{self._url} does not answer any more ({reason}); see that the server runs, and run the same command "
                "again: what was done is kept"
            )
        if self._failed >= self._limit and (not refused or self._answered_at is None):
            raise EndpointError(
                f"{self._failed} questions in a row got no answer from {self._url}, the last one because {reason}; "
                "mend that, and run the same command again: what was done is kept"
            )


class _Requests:
    """The requests of one run."""

    def __init__(self, engine: EndpointEngine, http: aiohttp.ClientSession, sampling: Sampling) -> None:
        self._engine = engine
        self._http = http
        self._sampling = sampling
        self._usage = engine.usage
        self._patience = engine.patience
        self._rate = Rate(engine.rate)
        self._proxy = _proxy_of(engine.url)
        self._url = engine.url + request_path(sampling.chat)
        self._one_by_one = False
        self._models: list[str] = []
        self._verdicts = _Verdicts(engine.url, max(_IN_A_ROW, engine.concurrency))

    async def greet(self) -> None:
        """See that somebody is there, and which models he has.

        Raises:
            EndpointError: nobody is, or not for us.
        """
        for failed in range(1, _GREETINGS + 1):
            try:
                content = await self._exchange("GET", self._engine.url + "/models", None)
            except _Refused:
                return  # a server need not tell its models
            except _Unanswered as error:
                if not error.gone:
                    return
                if failed == _GREETINGS:
                    raise EndpointError(
                        f"nobody answers at {self._engine.url} ({error}); start the server, or correct --endpoint"
                    ) from error
                await asyncio.sleep(self._patience.pause_s(failed, None))
            else:
                self._models = _model_names(content)
                return

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
        wanted, failed, since, one_by_one = list(ask.samples), 0, time.monotonic(), False
        while wanted:
            samples = wanted[:1] if one_by_one or self._one_by_one else _first_row(wanted)
            try:
                answered = await self._request(ask.question, samples)
            except _Refused as error:
                if len(samples) > 1:
                    one_by_one = True
                    continue
                self._verdicts.failed(str(error), since=since, gone=False, refused=True)
                await _give_up(ask.question, wanted, str(error), put)
                return
            except _Unanswered as error:
                failed += 1
                if failed >= self._patience.tries:
                    reason = f"{error}, {failed} times" if failed > 1 else str(error)
                    self._verdicts.failed(reason, since=since, gone=error.gone, refused=False)
                    await _give_up(ask.question, wanted, reason, put)
                    return
                await asyncio.sleep(self._patience.pause_s(failed, error.hint_s))
                self._usage.retries += 1
                continue
            failed, since = 0, time.monotonic()
            self._verdicts.answered()
            self._one_by_one |= one_by_one
            for reply in self._replies(ask.question, samples, answered):
                wanted.remove(reply.sample)
                await put(reply)

    async def _request(self, question: Question, samples: Sequence[int]) -> Answered:
        body = request_body(question, samples, self._sampling, self._engine.served, logprobs=self._engine.logprobs)
        await self._rate.turn()
        self._usage.requests += 1
        content = await self._exchange("POST", self._url, json.dumps(body).encode())
        try:
            answered = read_answer(content, len(samples))
        except Malformed as error:
            raise _Unanswered(str(error)) from error
        self._usage.prompt_tokens += answered.prompt_tokens or 0
        self._usage.completion_tokens += answered.completion_tokens or 0
        return answered

    async def _exchange(self, method: str, url: str, body: bytes | None) -> bytes:
        """Send one request; the body of a good answer."""
        try:
            async with self._http.request(method, url, data=body, proxy=self._proxy, allow_redirects=False) as response:
                content = await response.read()
        except aiohttp.ClientError as error:
            raise _Unanswered(self._without_key(str(error)) or type(error).__name__, gone=True) from error
        except TimeoutError as error:
            raise _Unanswered(f"no answer within {self._patience.timeout_s:g} s") from error
        if response.status == 200:
            return content
        self._check_status(response, content, asked_for_models=method == "GET")
        raise AssertionError("a bad status raises")

    def _check_status(self, response: aiohttp.ClientResponse, content: bytes, *, asked_for_models: bool) -> None:
        """Raise what a bad status means."""
        status, words = response.status, self._without_key(server_words(content))
        if status in _AGAIN or status >= 500:
            hint_s = retry_after_s(response.headers.get("Retry-After"))
            raise _Unanswered(f"status {status}: {words}", gone=status in (502, 503, 504), hint_s=hint_s)
        if status in (401, 403):
            given = "the key" if self._engine.key is not None else "a request without a key"
            raise EndpointError(f"{self._engine.url} refuses {given} (status {status}): {words}")
        if asked_for_models or status not in (404, *range(300, 400)):
            raise _Refused(f"status {status}: {words}")
        if status != 404:
            raise EndpointError(
                f"{self._engine.url} sends requests on to {response.headers.get('Location', 'nowhere')}; name that "
                "endpoint, if it is to have them"
            )
        named = f"; it has {', '.join(self._models[:_NAMED_MODELS])}" if self._models else ""
        raise EndpointError(f"{self._url} has no model {self._engine.served!r} (status 404: {words}){named}")

    def _replies(self, question: Question, samples: Sequence[int], answered: Answered) -> list[Reply]:
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

    def _without_key(self, words: str) -> str:
        """A server may repeat the key that it was sent."""
        key = self._engine.key.get_secret_value() if self._engine.key is not None else ""
        return words.replace(key, "***") if key else words


async def _give_up(question: Question, samples: Iterable[int], reason: str, put: Put[Reply]) -> None:
    for sample in samples:
        await put(Reply(question=question, sample=sample, error=reason))


def _first_row(samples: Sequence[int]) -> list[int]:
    """The samples from the first on that follow each other: one request seeds them one after the other."""
    row = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(samples, itertools.count(samples[0]), strict=False))
    return [sample for sample, _ in row]


def _model_names(content: bytes) -> list[str]:
    """The models of an answer to `/models`; none where it cannot be read."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return [str(model["id"]) for model in json.loads(content)["data"]]
    return []


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for this address; looked up once, not with every request."""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
