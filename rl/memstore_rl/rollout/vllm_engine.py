"""An engine that runs vLLM in this process: batches of samples go to `LLM.chat` or `LLM.generate`.

- Consecutive samples of a question are one prompt with the seed of the first. vLLM draws child j of a prompt with seed
  + j, so a sample has the same seed in a batch, alone after an interruption, and from a server behind `EndpointEngine`.
  Greedy samples are prompts of one sample: vLLM rejects n > 1 for them.
- A prompt that fills the model's context gets an error reply, and the rest of the batch is sampled; vLLM would reject
  the whole batch. A reply that reaches the end of the context is truncated there, with the finish reason `length`, as
  by the server.
- Only `Sampling` shapes the distribution. Defaults in the model's generation_config.json (top-k, repetition penalty)
  are not applied; a server applies them unless it was started with `--generation-config vllm`.

The next batch is sampled while the replies of the previous one are consumed. Reasoning is not separated from the text:
vLLM's reasoning parsers run in its server only. vLLM is imported by `load`, not by importing this module.
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
from memstore_rl.rollout.engine import Reply, SampleRequest, Sampling, Usage
from memstore_rl.rollout.parent_watchdog import kill_when_parent_exits
from memstore_rl.rollout.prompts import chat_messages, prompt_text
from memstore_rl.rollout.sample_keys import sample_seed

if TYPE_CHECKING:
    from vllm import LLM, CompletionOutput, RequestOutput, SamplingParams

BATCH = 1024
"""Samples of one call to vLLM. A batch lasts as long as its longest reply, and a kill loses the current batch."""

_COMPLETE = ("stop", "length")
"""Finish reasons of a usable reply; vLLM's other reasons mean that it aborted the request."""

_Result = TypeVar("_Result")


class VllmError(MemstoreError):
    """vLLM is not installed, cannot load the model, or failed while sampling."""


class _Prompt(NamedTuple):
    """Consecutive samples of one question: one prompt for vLLM."""

    question: Question
    samples: range


class VllmEngine:
    """Samples from one model with vLLM in this process; see the module."""

    def __init__(self, llm: LLM, model: str, *, batch: int = BATCH) -> None:
        """Wrap a loaded model.

        Args:
            llm: created with any options that fit the machine.
            model: the policy's name in records.
            batch: samples of one call; see `BATCH`.
        """
        self.model = model
        self.usage = Usage()
        self._llm = llm
        self._batch = batch
        self._call_lock = threading.Lock()
        self._watchdog: subprocess.Popen[bytes] | None = None

    @classmethod
    def load(
        cls, path: str, *, model: str | None = None, options: Mapping[str, Any] | None = None, batch: int = BATCH
    ) -> VllmEngine:
        """Load a model with vLLM.

        Args:
            path: a folder with the model, or its name on a hub.
            model: the policy's name in records; None: the path.
            options: arguments of `vllm.LLM` besides the model, such as `max_model_len` or `tensor_parallel_size`.

        Raises:
            VllmError: vLLM is not installed, or cannot load the model.
        """
        # vLLM and its child processes log to stdout, which carries the command's result.
        os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
        try:
            from vllm import LLM
        except ModuleNotFoundError as error:
            if error.name != "vllm":
                raise
            raise VllmError(
                "vLLM is not installed here: pip install 'memstore[vllm]', or use a vLLM server with --endpoint"
            ) from error
        before = active_children()
        try:
            llm = LLM(model=path, **(options or {}))
        except Exception as error:  # vLLM raises many unrelated types here
            raise VllmError(f"vLLM cannot load the model {path}: {_first_line(error)}") from error
        engine = cls(llm, model or path, batch=batch)
        children = [process.pid for process in active_children() if process not in before]
        engine._watchdog = kill_when_parent_exits(pid for pid in children if pid is not None)
        return engine

    async def generate(self, requests: Iterable[SampleRequest], sampling: Sampling) -> AsyncIterator[Reply]:
        """See `Engine.generate`.

        Raises:
            InputError: `sampling.chat` is set and the model has no usable chat template.
            VllmError: vLLM failed; replies yielded before remain valid.
        """
        replies: list[Reply] = []
        for batch in _batches(requests, self._batch):
            sampled = _in_thread(partial(self._sample, batch, sampling))
            try:
                for reply in replies:
                    yield reply
                replies = await sampled
            finally:
                sampled.cancel()
        for reply in replies:
            yield reply

    def _sample(self, requests: Sequence[SampleRequest], sampling: Sampling) -> list[Reply]:
        """The replies of one batch."""
        replies: list[Reply] = []
        prompts: list[_Prompt] = []
        for request in requests:
            error = self._prompt_error(request.question, sampling)
            if error is None:
                ranges = _ranges(request.samples, single=sampling.temperature == 0)
                prompts += [_Prompt(request.question, samples) for samples in ranges]
            else:
                replies += [Reply(request.question, sample, error=error) for sample in request.samples]
        if prompts:
            for prompt, output in zip(prompts, self._call(prompts, sampling), strict=True):
                replies += self._replies(prompt, output)
        return replies

    def _prompt_error(self, question: Question, sampling: Sampling) -> str | None:
        """Why vLLM cannot sample the question; None if it can."""
        from jinja2 import TemplateError

        try:
            tokens = self._count_prompt_tokens(question, sampling.chat)
        except TemplateError as error:
            return f"the chat template of {self.model} rejects the prompt: {_first_line(error)}"
        context = self._llm.model_config.max_model_len
        if tokens >= context:
            return f"the prompt of {tokens} tokens fills the context of {self.model}, {context} tokens"
        return None if tokens else "the prompt is empty"

    def _count_prompt_tokens(self, question: Question, chat: bool) -> int:
        tokenizer = self._llm.get_tokenizer()
        if not chat:
            return len(tokenizer.encode(prompt_text(question)))
        try:
            tokens = tokenizer.apply_chat_template(
                chat_messages(question),
                chat_template=self._llm.chat_template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        except ValueError as error:
            raise InputError(
                f"{self.model} has no usable chat template ({_first_line(error)}); pass --no-chat to complete the "
                "prompts as plain text"
            ) from error
        return len(tokens)

    def _call(self, prompts: Sequence[_Prompt], sampling: Sampling) -> Sequence[RequestOutput]:
        """Call vLLM once; return the outputs in the order of the prompts."""
        params = [_sampling_params(prompt, sampling) for prompt in prompts]
        self.usage.requests += len(prompts)
        outputs: Sequence[RequestOutput]
        try:
            # A generator that is closed early leaves its call running, and vLLM is not thread-safe.
            with self._call_lock:
                if sampling.chat:
                    messages = [chat_messages(prompt.question) for prompt in prompts]
                    outputs = self._llm.chat(messages, params, use_tqdm=False)
                else:
                    texts = [prompt_text(prompt.question) for prompt in prompts]
                    outputs = self._llm.generate(texts, params, use_tqdm=False)
        except Exception as error:  # vLLM raises many unrelated types here
            raise VllmError(
                f"vLLM failed while sampling {len(prompts)} prompts ({_first_line(error)}); run the same command again "
                "to resume"
            ) from error
        return outputs

    def _replies(self, prompt: _Prompt, output: RequestOutput) -> Iterator[Reply]:
        """The samples of one prompt."""
        prompt_tokens = len(output.prompt_token_ids)
        self.usage.prompt_tokens += prompt_tokens
        for completion in output.outputs:
            self.usage.completion_tokens += len(completion.token_ids)
            sample = prompt.samples[completion.index]
            if completion.finish_reason in _COMPLETE:
                yield Reply(
                    prompt.question,
                    sample,
                    text=completion.text,
                    finish_reason=completion.finish_reason,
                    mean_logprob=_mean_logprob(completion),
                    prompt_tokens=prompt_tokens,
                    completion_tokens=len(completion.token_ids),
                )
            else:
                yield Reply(prompt.question, sample, error=f"vLLM aborted the request: {completion.finish_reason}")


def _sampling_params(prompt: _Prompt, sampling: Sampling) -> SamplingParams:
    from vllm import SamplingParams

    first = prompt.samples.start
    return SamplingParams(
        n=len(prompt.samples),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        seed=None if sampling.seed is None else sample_seed(sampling.seed, prompt.question, first),
        logprobs=0,
    )


def _mean_logprob(completion: CompletionOutput) -> float | None:
    if completion.cumulative_logprob is None or not completion.token_ids:
        return None
    return float(completion.cumulative_logprob / len(completion.token_ids))


def _batches(requests: Iterable[SampleRequest], samples: int) -> Iterator[list[SampleRequest]]:
    """Group requests into batches of at least `samples` samples; a request is not split."""
    batch: list[SampleRequest] = []
    size = 0
    for request in requests:
        batch.append(request)
        size += len(request.samples)
        if size >= samples:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _ranges(samples: Iterable[int], *, single: bool) -> list[range]:
    """The samples as ranges of consecutive indices, or as ranges of one index each."""
    ranges: list[range] = []
    for sample in sorted(samples):
        if ranges and not single and ranges[-1].stop == sample:
            ranges[-1] = range(ranges[-1].start, sample + 1)
        else:
            ranges.append(range(sample, sample + 1))
    return ranges


def _in_thread(function: Callable[[], _Result]) -> asyncio.Future[_Result]:
    """Run the function in a daemon thread, which does not delay the exit of the program.

    A thread of `asyncio.to_thread` would: a batch of a thousand replies takes minutes.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def settle(put: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            put(outcome)

    def run() -> None:
        try:
            settled = partial(settle, future.set_result, function())
        except BaseException as error:  # handed to the future, which raises it
            settled = partial(settle, future.set_exception, error)
        with suppress(RuntimeError):  # the loop is closed, so the result is no longer needed
            loop.call_soon_threadsafe(settled)

    threading.Thread(target=run, name="vllm", daemon=True).start()
    return future


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
