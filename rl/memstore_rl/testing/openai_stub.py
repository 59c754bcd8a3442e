"""A stub of an OpenAI-compatible server: it responds without a model, and injects faults.

    python -m memstore_rl.testing.openai_stub '{"drop": 0.05}'

prints its address as one line and serves until it is terminated. Its text is a function of the prompt and the sample's
seed (`text_of`), which is seed + j for choice j, as with vLLM, so a test can check that each rollout is the requested
one. Faults are random with a seed of their own; invalid requests get the usual status. `GET /stats` returns counts.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from aiohttp import web

MODEL = "stub"
KINDS = ("busy", "broken", "drop", "cut", "malformed", "empty_choices")


@dataclass(frozen=True)
class Stub:
    """Behaviour of the server. Shares are of the requests, 0..1; the rest is answered correctly."""

    delay_s: float = 0.0
    """Mean delay of a response, uniform between 0 and twice the mean."""
    busy: float = 0.0
    """Status 429 with Retry-After."""
    broken: float = 0.0
    """Status 500."""
    drop: float = 0.0
    """The connection is closed without a response."""
    cut: float = 0.0
    """The connection is closed in the middle of the response."""
    malformed: float = 0.0
    """Status 200 with invalid JSON."""
    empty_choices: float = 0.0
    """A response without choices."""
    too_few: float = 0.0
    """One choice fewer than requested, if n > 1."""
    retry_after_s: float = 0.01
    most: int = 0
    """Maximum number of choices, regardless of n; 0: no limit."""
    refuse_n: bool = False
    """Status 400 for n > 1."""
    refuse_logprobs: bool = False
    key: str = ""
    """The key that requests must have."""
    context: int = 0
    """Maximum characters of a prompt, else status 400; 0: no limit."""
    think: str = ""
    """Where the thinking is returned: `tags`, `reasoning` or `reasoning_content`."""
    truncate: float = 0.0
    """Share of truncated choices."""
    blank: float = 0.0
    """Share of empty choices."""
    stall_after: int | None = None
    """Number of requests that get a response; later ones wait forever."""
    down: bool = False
    """Status 503 for everything but the list of models."""
    seed: int = 0


def thinking_of(prompt: str, seed: int) -> str:
    """The stub's thinking."""
    return f"Sample {seed} of {hashlib.blake2b(prompt.encode(), digest_size=6).hexdigest()}: I add the numbers up."


def answer_of(prompt: str, seed: int) -> str:
    """The stub's answer; for a prompt that asks for a sum, correct for every other seed."""
    numbers = [int(word) for word in prompt.replace("?", " ").split() if word.isdigit()]
    return str(sum(numbers) + seed % 2)


def text_of(prompt: str, seed: int) -> str:
    """The stub's text: thinking and answer."""
    return f"{thinking_of(prompt, seed)} The answer is {answer_of(prompt, seed)}."


class _Server:
    """The request handlers and their counts."""

    def __init__(self, stub: Stub, stalled: threading.Event | None = None) -> None:
        self.stub = stub
        self.stalled = stalled or threading.Event()
        self.chance = random.Random(stub.seed)
        self.counts = dict.fromkeys(("requests", "choices", "under_way", "most_under_way", *KINDS), 0)
        self.unseeded = 0

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/stats", self.stats)
        return app

    async def stats(self, request: web.Request) -> web.Response:
        return web.json_response(self.counts)

    async def models(self, request: web.Request) -> web.Response:
        if self._wrong_key(request):
            return _refusal(401, f"Incorrect API key provided: {request.headers.get('Authorization')}")
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, chat=True)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, chat=False)

    async def _answer(self, request: web.Request, *, chat: bool) -> web.StreamResponse:
        self.counts["requests"] += 1
        self.counts["under_way"] += 1
        self.counts["most_under_way"] = max(self.counts["most_under_way"], self.counts["under_way"])
        try:
            body = await request.json()
            if self.stub.stall_after is not None and self.counts["requests"] > self.stub.stall_after:
                self.stalled.set()
                await asyncio.Event().wait()
            if self.stub.delay_s:
                await asyncio.sleep(self.chance.uniform(0, 2 * self.stub.delay_s))
            return self._refused(request, body, chat) or await self._served(request, body, chat)
        finally:
            self.counts["under_way"] -= 1

    def _refused(self, request: web.Request, body: Mapping[str, Any], chat: bool) -> web.Response | None:
        """The response to an invalid request; None if it is valid."""
        stub = self.stub
        if self._wrong_key(request):
            return _refusal(401, f"Incorrect API key provided: {request.headers.get('Authorization')}")
        if stub.down:
            return _refusal(503, "the model is being loaded")
        if body.get("model") != MODEL:
            return _refusal(404, f"The model `{body.get('model')}` does not exist.")
        if stub.context and len(_prompt_of(body, chat)) > stub.context:
            return _refusal(400, f"This model's maximum context length is {stub.context} tokens.")
        if stub.refuse_n and body.get("n", 1) > 1:
            return _refusal(400, "n must be 1")
        if stub.refuse_logprobs and body.get("logprobs"):
            return _refusal(400, "logprobs are not supported")
        return None

    async def _served(self, request: web.Request, body: Mapping[str, Any], chat: bool) -> web.StreamResponse:
        kind = self._fault()
        if kind == "busy":
            return _refusal(429, "too many requests", {"Retry-After": str(self.stub.retry_after_s)})
        if kind == "broken":
            return _refusal(500, "internal error")
        content = b'{"choices": [' if kind == "malformed" else json.dumps(self._document(body, chat, kind)).encode()
        if kind in ("drop", "cut"):
            response = web.StreamResponse(headers={"Content-Length": str(len(content))})
            if kind == "cut":
                with suppress(ConnectionResetError):  # the client closed the connection first
                    await response.prepare(request)
                    await response.write(content[: len(content) // 2])
            if request.transport is not None:
                request.transport.abort()
            return response
        return web.Response(body=content, content_type="application/json")

    def _fault(self) -> str | None:
        drawn = self.chance.random()
        for kind in KINDS:
            drawn -= getattr(self.stub, kind)
            if drawn < 0:
                self.counts[kind] += 1
                return kind
        return None

    def _document(self, body: Mapping[str, Any], chat: bool, kind: str | None) -> dict[str, Any]:
        wanted = body.get("n", 1)
        given = min(wanted, self.stub.most or wanted)
        if wanted > 1 and self.chance.random() < self.stub.too_few:
            given -= 1
        if kind == "empty_choices":
            given = 0
        choices = [self._choice(body, chat, place) for place in range(given)]
        self.counts["choices"] += given
        prompt = _prompt_of(body, chat)
        tokens = sum(choice.pop("tokens") for choice in choices)
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": tokens}
        return {"id": "stub", "model": MODEL, "choices": choices, "usage": usage}

    def _choice(self, body: Mapping[str, Any], chat: bool, place: int) -> dict[str, Any]:
        stub, prompt = self.stub, _prompt_of(body, chat)
        if "seed" in body:
            seed = int(body["seed"]) + place
        else:
            self.unseeded += 1
            seed = self.unseeded
        uniform = (seed * 2_654_435_761 % 1000) / 1000
        truncated, blank = uniform < stub.truncate, uniform >= 1 - stub.blank
        text, reasoning = _text_and_reasoning(stub.think, prompt, seed)
        if truncated:
            text = text[: len(text) // 2]
        if blank:
            text = ""
        words = text.split()
        choice: dict[str, Any] = {
            "index": place,
            "finish_reason": "length" if truncated else "stop",
            "tokens": len(words),
        }
        logprobs = [-0.25] * len(words)
        if chat:
            choice["message"] = {"role": "assistant", "content": text, **reasoning}
            listed = [{"token": word, "logprob": value} for word, value in zip(words, logprobs, strict=True)]
            returned: dict[str, Any] = {"content": listed}
        else:
            choice["text"] = text
            returned = {"tokens": words, "token_logprobs": logprobs}
        choice["logprobs"] = returned if body.get("logprobs") else None
        return choice

    def _wrong_key(self, request: web.Request) -> bool:
        return bool(self.stub.key) and request.headers.get("Authorization") != f"Bearer {self.stub.key}"


def _text_and_reasoning(think: str, prompt: str, seed: int) -> tuple[str, dict[str, str]]:
    if think == "tags":
        return f"<think>\n{thinking_of(prompt, seed)}\n</think>\n\nThe answer is {answer_of(prompt, seed)}.", {}
    if think:
        return f"The answer is {answer_of(prompt, seed)}.", {think: thinking_of(prompt, seed)}
    return text_of(prompt, seed), {}


def _prompt_of(body: Mapping[str, Any], chat: bool) -> str:
    return str(body["messages"][-1]["content"] if chat else body["prompt"])


def _refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status, headers=headers)


async def _listen(stub: Stub, stalled: threading.Event | None = None) -> tuple[web.AppRunner, str]:
    runner = web.AppRunner(_Server(stub, stalled).app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


async def _end(runner: web.AppRunner) -> None:
    """Stop the stub and the requests that still wait; a task that is left to a closed loop is logged as an error."""
    await runner.cleanup()
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


@contextmanager
def serving(stub: Stub, stalled: threading.Event | None = None) -> Iterator[str]:
    """Run the stub in a thread of this process; yields its address.

    Args:
        stalled: set when a request waits because of `stall_after`.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="openai-stub", daemon=True)
    thread.start()
    runner, url = asyncio.run_coroutine_threadsafe(_listen(stub, stalled), loop).result()
    try:
        yield url
    finally:
        asyncio.run_coroutine_threadsafe(_end(runner), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def process(stub: Stub) -> Iterator[str]:
    """Run the stub in a separate process; yields its address."""
    command = [sys.executable, "-m", __name__, json.dumps(asdict(stub))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            yield running.stdout.readline().strip()
        finally:
            running.kill()


async def _serve(stub: Stub) -> None:
    _, url = await _listen(stub)
    print(url, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    given = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    names = {field.name for field in fields(Stub)}
    if unknown := given.keys() - names:
        sys.exit(f"unknown: {', '.join(unknown)}; available: {', '.join(sorted(names))}")
    asyncio.run(_serve(Stub(**given)))
