"""The engine that is vLLM in this process: asks go to `LLM.chat` or `LLM.generate`, many samples at once.

What holds of its samples:

- Neighbouring samples of a question are one prompt with the first one's seed. vLLM draws child j of a prompt with seed
  + j, so a sample has one seed whether it is drawn beside its siblings, alone after an interruption, or by a server
  that `EndpointEngine` asks. Greedy samples are prompts of one: vLLM refuses others.
- A prompt that fills the model's context gets no sample; the others of its batch do, where vLLM would refuse them all.
  An answer that runs into the context's end is cut off there, with the finish reason `length`: so does the server.
- Only `Sampling` shapes the distribution. The defaults of the model's generation_config.json (top-k, a repetition
  penalty) are not applied, as they are by a server that was started without `--generation-config vllm`.

The next batch is drawn while the replies of the last are taken. Reasoning is not split off: vLLM's parsers of it run in
its server; tags stay in the text. vLLM is imported by `load`, and by nothing before it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing import active_children
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from memstore.errors import InputError, MemstoreError
from memstore_rl.benchmarks.question import Question
from memstore_rl.rollout.asking import messages, prompt, sample_seed
from memstore_rl.rollout.engine import Ask, Reply, Sampling, Usage
from memstore_rl.rollout.parent_watchdog import end_with_this_process

if TYPE_CHECKING:
    from vllm import LLM, CompletionOutput, RequestOutput, SamplingParams

BATCH = 1024
"""Samples of one call. A batch ends with its longest answer, and a program that is killed loses one."""

_WHOLE = ("stop", "length")
"""Finish reasons of an answer; vLLM's others are of one that it broke off."""

_Result = TypeVar("_Result")


class VllmError(MemstoreError):
    """vLLM cannot be had here, cannot load the model, or failed while it answered."""


class _Request(NamedTuple):
    """Neighbouring samples of one question: one prompt for vLLM."""

    question: Question
    samples: range


class VllmEngine:
    """Draws from one model with vLLM, in this process; see the module."""

    def __init__(self, llm: LLM, model: str, *, batch: int = BATCH) -> None:
        """Over a model that is loaded.

        Args:
            llm: made with any options that fit the machine.
            model: the policy's name, as records hold it.
            batch: samples of one call; see `BATCH`.
        """
        self.model = model
        self.usage = Usage()
        self._llm = llm
        self._batch = batch
        self._one_call = threading.Lock()
        self._guard: subprocess.Popen[bytes] | None = None

    @classmethod
    def load(
        cls, path: str, *, model: str | None = None, options: Mapping[str, Any] | None = None, batch: int = BATCH
    ) -> VllmEngine:
        """Load a model with vLLM.

        Args:
            path: a folder with the model, or its name on a hub.
            model: the policy's name; None: the path.
            options: what `vllm.LLM` takes beside the model, such as `max_model_len` or `tensor_parallel_size`.

        Raises:
            VllmError: vLLM is not installed, or cannot load the model.
        """
        # vLLM logs to stdout, in the processes that it starts too; a command's stdout is its result.
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        try:
            from vllm import LLM
        except ModuleNotFoundError as error:
            if error.name != "vllm":
                raise
            raise VllmError(
                "vLLM is not installed here: pip install 'memstore[vllm]', or ask a server of it by --endpoint"
            ) from error
        before = active_children()
        try:
            llm = LLM(model=path, **(options or {}))
        except Exception as error:
            raise VllmError(f"vLLM cannot load the model {path}: {_first_line(error)}") from error
        engine = cls(llm, model or path, batch=batch)
        started = [process.pid for process in active_children() if process not in before]
        engine._guard = end_with_this_process(pid for pid in started if pid is not None)
        return engine

    async def generate(self, asks: Iterable[Ask], sampling: Sampling) -> AsyncIterator[Reply]:
        """See `Engine.generate`.

        Raises:
            InputError: the model has no chat template, and `sampling` wants one.
            VllmError: vLLM failed; the replies before it hold.
        """
        drawn: list[Reply] = []
        for batch in _batches(asks, self._batch):
            drawing = _in_thread(partial(self._draw, batch, sampling))
            try:
                for reply in drawn:
                    yield reply
                drawn = await drawing
            finally:
                drawing.cancel()
        for reply in drawn:
            yield reply

    def _draw(self, asks: Sequence[Ask], sampling: Sampling) -> list[Reply]:
        """The replies of one batch."""
        replies: list[Reply] = []
        requests: list[_Request] = []
        for ask in asks:
            refusal = self._refusal(ask.question, sampling)
            if refusal is None:
                rows = _rows(ask.samples, alone=sampling.temperature == 0)
                requests += [_Request(ask.question, row) for row in rows]
            else:
                replies += [Reply(ask.question, sample, error=refusal) for sample in ask.samples]
        if requests:
            for request, output in zip(requests, self._call(requests, sampling), strict=True):
                replies += self._replies(request, output)
        return replies

    def _refusal(self, question: Question, sampling: Sampling) -> str | None:
        """Why the question is not put to vLLM; None: it is."""
        from jinja2 import TemplateError

        try:
            tokens = self._prompt_tokens(question, sampling.chat)
        except TemplateError as error:
            return f"the chat template of {self.model} does not take it: {_first_line(error)}"
        context = self._llm.model_config.max_model_len
        if tokens >= context:
            return f"its prompt of {tokens} tokens leaves no room in the context of {self.model}, {context} tokens"
        return None if tokens else "its prompt is empty"

    def _prompt_tokens(self, question: Question, chat: bool) -> int:
        tokenizer = self._llm.get_tokenizer()
        if not chat:
            return len(tokenizer.encode(prompt(question)))
        try:
            tokens = tokenizer.apply_chat_template(
                messages(question),
                chat_template=self._llm.chat_template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except ValueError as error:
            raise InputError(
                f"{self.model} has no chat template that can be used ({_first_line(error)}); pass --no-chat, and "
                "prompts are completed as they stand"
            ) from error
        return len(tokens)

    def _call(self, requests: Sequence[_Request], sampling: Sampling) -> Sequence[RequestOutput]:
        """One call of vLLM; its outputs are in the order of the requests."""
        params = [_params(request, sampling) for request in requests]
        self.usage.requests += len(requests)
        outputs: Sequence[RequestOutput]
        try:
            # A generator that was left leaves its call behind; vLLM's are not made for two threads.
            with self._one_call:
                if sampling.chat:
                    turns = [messages(request.question) for request in requests]
                    outputs = self._llm.chat(turns, params, use_tqdm=False)
                else:
                    texts = [prompt(request.question) for request in requests]
                    outputs = self._llm.generate(texts, params, use_tqdm=False)
        except Exception as error:
            raise VllmError(
                f"vLLM failed while it answered {len(requests)} prompts ({_first_line(error)}); run the same command "
                "again: what was done is kept"
            ) from error
        return outputs

    def _replies(self, request: _Request, output: RequestOutput) -> Iterator[Reply]:
        """The samples of one request."""
        prompt_tokens = len(output.prompt_token_ids)
        self.usage.prompt_tokens += prompt_tokens
        for completion in output.outputs:
            self.usage.completion_tokens += len(completion.token_ids)
            sample = request.samples[completion.index]
            if completion.finish_reason in _WHOLE:
                yield Reply(
                    request.question,
                    sample,
                    text=completion.text,
                    finish_reason=completion.finish_reason,
                    mean_logprob=_mean_logprob(completion),
                    prompt_tokens=prompt_tokens,
                    completion_tokens=len(completion.token_ids),
                )
            else:
                reason = f"vLLM broke its answer off: {completion.finish_reason}"
                yield Reply(request.question, sample, error=reason)


def _params(request: _Request, sampling: Sampling) -> SamplingParams:
    from vllm import SamplingParams

    first = request.samples.start
    return SamplingParams(
        n=len(request.samples),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=None if sampling.seed is None else sample_seed(sampling.seed, request.question, first),
        logprobs=0,
    )


def _mean_logprob(completion: CompletionOutput) -> float | None:
    if completion.cumulative_logprob is None or not completion.token_ids:
        return None
    return float(completion.cumulative_logprob / len(completion.token_ids))


def _batches(asks: Iterable[Ask], samples: int) -> Iterator[list[Ask]]:
    """Asks of so many samples together, or of a few more; an ask is not cut."""
    batch: list[Ask] = []
    held = 0
    for ask in asks:
        batch.append(ask)
        held += len(ask.samples)
        if held >= samples:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _rows(samples: Iterable[int], *, alone: bool) -> list[range]:
    """The samples in rows of neighbours, or each by itself."""
    rows: list[range] = []
    for sample in sorted(samples):
        if rows and not alone and rows[-1].stop == sample:
            rows[-1] = range(rows[-1].start, sample + 1)
        else:
            rows.append(range(sample, sample + 1))
    return rows


def _in_thread(function: Callable[[], _Result]) -> asyncio.Future[_Result]:
    """What the function returns, from a thread that a program which is told to end does not wait for.

    It would wait for those of `asyncio.to_thread`: for minutes, as a batch has a thousand answers.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(put: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            put(outcome)

    def run() -> None:
        try:
            settled = partial(settle, future.set_result, function())
        except BaseException as error:
            settled = partial(settle, future.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settled)

    threading.Thread(target=run, name="vllm", daemon=True).start()
    return future


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
