"""An OpenAI-compatible server of a small Llama on a CPU, for benchmarks and tests: `/v1/chat/completions`.

    python benchmarks/policy_server.py FOLDER [--batch 96]

prints its address as one line and serves until it is terminated. Requests that wait are sampled in one batch. Choice j
of a request is drawn with seed + j, as by vLLM, and does not depend on the other rows of its batch, up to rounding. The
log probabilities are those of the model's own distribution, before the temperature.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from aiohttp import web
from policy_learning_sampler import FastLlama
from torch import Tensor
from transformers import AutoTokenizer
from transformers.utils import logging

COLLECT_S = 0.1
"""Time in which further requests join a batch."""


@dataclass
class Row:
    """One response: what is asked for, and what was drawn."""

    prompt: list[int]
    temperature: float
    limit: int
    """Maximum number of tokens."""
    seed: int | None
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False


@dataclass
class Job:
    """The rows of one request, and its future."""

    rows: list[Row]
    done: asyncio.Future[None]


class RowDraws:
    """Draws the tokens of rows, each with its own temperature and random numbers, and records them in the row."""

    def __init__(self, rows: Sequence[Row], end: int) -> None:
        self._rows = rows
        self._end = end
        self._chances = [random.Random(row.seed) for row in rows]

    def __call__(self, logits: Tensor, places: Tensor) -> Tensor:
        """See `policy_learning_sampler.Draw`."""
        rows = [self._rows[place] for place in places.tolist()]
        logits = logits.float()
        temperatures = torch.tensor([row.temperature for row in rows])[:, None]
        reached = torch.softmax(logits / temperatures.clamp(min=1e-4), 1).cumsum(1)
        numbers = torch.tensor([self._chances[place].random() for place in places.tolist()])[:, None]
        drawn = torch.searchsorted(reached, numbers * reached[:, -1:], right=True)[:, 0].clamp(max=logits.shape[1] - 1)
        token = torch.where(temperatures[:, 0] == 0, logits.argmax(1), drawn)
        logprobs = logits.gather(1, token[:, None])[:, 0] - logits.logsumexp(1)
        for line, row in enumerate(rows):
            if len(row.tokens) == row.limit:
                token[line] = self._end  # leaves the batch
            elif not row.ended:
                row.tokens.append(int(token[line]))
                row.logprobs.append(float(logprobs[line]))
                row.ended = row.tokens[-1] == self._end
        return token


class PolicyServer:
    """The model, its queue and the request handlers."""

    def __init__(self, folder: Path, batch: int, dtype: torch.dtype = torch.bfloat16) -> None:
        """Load the model; `batch` is the number of rows above which a batch takes no further request."""
        self.name = folder.name
        self.batch = batch
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.model = FastLlama.from_pretrained(folder, dtype=dtype).eval()
        self.context = self.model.config.max_position_embeddings
        self.waiting: asyncio.Queue[Job]

    def app(self) -> web.Application:
        """The application, with the worker that samples."""
        app = web.Application(client_max_size=1 << 24)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.cleanup_ctx.append(self._sampling)
        return app

    async def models(self, request: web.Request) -> web.Response:
        """The list of models."""
        return web.json_response({"object": "list", "data": [{"id": self.name, "object": "model"}]})

    async def chat(self, request: web.Request) -> web.Response:
        """Sample `n` responses to `messages`."""
        body = await request.json()
        if body.get("model") != self.name:
            return refusal(404, f"the model {body.get('model')} does not exist; this server has {self.name}")
        if body.get("top_p", 1) != 1:
            return refusal(400, "top_p other than 1 is not supported")
        text = self.tokenizer.apply_chat_template(body["messages"], tokenize=False, add_generation_prompt=True)
        prompt = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        limit, seed = body.get("max_tokens", 256), body.get("seed")
        if len(prompt) + limit > self.context:
            return refusal(400, f"{len(prompt)} and {limit} tokens are more than the context of {self.context}")
        count = range(body.get("n", 1))
        temperature = body.get("temperature", 1.0)
        rows = [Row(prompt, temperature, limit, None if seed is None else seed + index) for index in count]
        job = Job(rows, asyncio.get_running_loop().create_future())
        await self.waiting.put(job)
        await job.done
        used = {"prompt_tokens": len(prompt), "completion_tokens": sum(len(row.tokens) for row in rows)}
        choices = [self._choice(index, row) for index, row in enumerate(rows)]
        return web.json_response({"object": "chat.completion", "model": self.name, "choices": choices, "usage": used})

    def _choice(self, index: int, row: Row) -> dict[str, Any]:
        texts = self.tokenizer.convert_ids_to_tokens(row.tokens)
        logprobs = [{"token": text, "logprob": value} for text, value in zip(texts, row.logprobs, strict=True)]
        return {
            "index": index,
            "finish_reason": "stop" if row.ended else "length",
            "message": {"role": "assistant", "content": self.tokenizer.decode(row.tokens, skip_special_tokens=True)},
            "logprobs": {"content": logprobs},
        }

    async def _sampling(self, app: web.Application) -> AsyncIterator[None]:
        self.waiting = asyncio.Queue()
        worker = asyncio.create_task(self._work())
        yield
        worker.cancel()
        with suppress(asyncio.CancelledError):
            await worker

    async def _work(self) -> None:
        while True:
            jobs = [await self.waiting.get()]
            await asyncio.sleep(COLLECT_S)
            while sum(len(job.rows) for job in jobs) < self.batch and not self.waiting.empty():
                jobs.append(self.waiting.get_nowait())
            try:
                await asyncio.to_thread(self.sample, [row for job in jobs for row in job.rows])
            except Exception as error:
                for job in jobs:
                    job.done.set_exception(error)  # its request gets status 500
            else:
                for job in jobs:
                    job.done.set_result(None)

    def sample(self, rows: Sequence[Row]) -> None:
        """Sample a batch, and record the tokens in its rows."""
        asked = self.tokenizer.pad({"input_ids": [row.prompt for row in rows]}, return_tensors="pt")
        self.model.generate(
            asked["input_ids"],
            asked["attention_mask"],
            max_new_tokens=max(row.limit for row in rows) + 1,
            draw=RowDraws(rows, self.model.config.eos_token_id),
        )


def refusal(status: int, message: str) -> web.Response:
    """An error in OpenAI's format."""
    return web.json_response({"error": {"message": message}}, status=status)


async def serve(folder: Path, batch: int) -> None:
    """Serve at a free port until the process is terminated."""
    runner = web.AppRunner(PolicyServer(folder, batch).app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print("http://{}:{}".format(*runner.addresses[0][:2]), flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Serve the model of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batch", type=int, default=96, help="rows above which a batch takes no further request")
    options = parser.parse_args()
    logging.disable_progress_bar()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(options.folder, options.batch))


if __name__ == "__main__":
    main()
