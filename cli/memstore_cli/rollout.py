"""`memstore rollout`: a model's answers to the questions of benchmarks or files, into a file or a memory."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.datasets import DataOption
from memstore_cli.opening import opened
from memstore_cli.options import DeviceOption, JsonOption, UsageError
from memstore_cli.output import counted, print_json
from memstore_cli.progress import watched
from memstore_cli.quiet import silence_libraries

if TYPE_CHECKING:
    from pydantic import SecretStr

    from memstore_rl.benchmarks.question import Question
    from memstore_rl.rollout.engine import Engine
    from memstore_rl.rollout.summary import Prices, RolloutSummary

KEY_VARIABLE = "MEMSTORE_API_KEY"


def rollout(
    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERIES", help="Benchmarks by name (memstore datasets), or files of queries."),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            show_default=False,
            help="The model, as the endpoint names it; for --vllm a folder, or its name on a hub.",
        ),
    ],
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", show_default=False, help="Whom to ask, in OpenAI's form."),
    ] = None,
    vllm: Annotated[bool, typer.Option("--vllm", help="Ask vLLM in this process instead of an endpoint.")] = False,
    vllm_options: Annotated[
        str,
        typer.Option("--vllm-options", metavar="JSON", help='What vllm.LLM takes, such as {"max_model_len": 4096}.'),
    ] = "{}",
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", metavar="NAME", show_default=False, help="The policy's name in records; else --model."
        ),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Rollouts of each query.")] = 8,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            show_default=False,
            help="JSON lines that memstore ingest takes; what is there stays and is not asked again.",
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="MEMORY",
            show_default=False,
            help="Ingest into this memory, too, as it goes; made if there is none.",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", show_default=False, help="train, validation or test of the queries alone.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, show_default=False, help="At most so many queries of each source.")
    ] = None,
    draw_seed: Annotated[int, typer.Option("--draw-seed", help="Another seed draws other queries and splits.")] = 0,
    data: DataOption = None,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy.")] = 1.0,
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="Nucleus of the sampling.")] = 1.0,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="A rollout that is longer is cut off, and marked.")
    ] = 1024,
    seed: Annotated[
        int | None,
        typer.Option("--seed", show_default=False, help="Draw every sample with a seed of its own, made of this."),
    ] = None,
    chat: Annotated[bool, typer.Option(help="Through the model's chat template, or the prompt as it stands.")] = True,
    logprobs: Annotated[bool, typer.Option(help="Ask for log probabilities; some servers refuse that.")] = True,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", show_default=False, help="The run of these rollouts.")
    ] = None,
    step: Annotated[int | None, typer.Option("--step", show_default=False, help="The policy's training step.")] = None,
    grading: Annotated[
        bool, typer.Option("--grade/--no-grade", help="Reward by ground truth where the gold is known.")
    ] = True,
    code: Annotated[bool, typer.Option("--code", help="Grade programs, too, by running them in the sandbox.")] = False,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0.0,
            max=1.0,
            show_default=False,
            help="Only this share of each dataset's training queries keep gold and reward.",
        ),
    ] = None,
    budget_seed: Annotated[int, typer.Option("--budget-seed", help="Another seed labels other queries.")] = 0,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Requests that are under way at once.")] = 64,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, show_default=False, help="Requests a second at most.")
    ] = None,
    tries: Annotated[int, typer.Option("--tries", min=1, help="Of a request that fails for a while.")] = 8,
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="For one try.")] = 600.0,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            show_default=False,
            help=f"A file that holds the endpoint's key; or the variable {KEY_VARIABLE}.",
        ),
    ] = None,
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--prices",
            metavar="PROMPT COMPLETION",
            show_default=False,
            help="Of a million prompt and completion tokens, for the cost in the summary.",
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a model for rollouts of queries, grade what can be graded, keep them in a file and a memory.

    Stopped at any instant, the same command goes on with what is missing.
    """
    if output is None and into is None:
        raise UsageError("nothing says where the rollouts go; name a file with --output, a memory with --into, or both")
    if (endpoint is not None) == vllm:
        raise UsageError("name one that answers: --endpoint URL for a server, or --vllm for vLLM in this process")
    asked = read_questions(queries, split, limit, draw_seed, data)
    from memstore_rl.rollout.engine import Sampling
    from memstore_rl.rollout.run import RolloutPlan
    from memstore_rl.rollout.run import rollout as make_rollouts
    from memstore_rl.verifiers import make_verifiers

    sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed, chat=chat)
    plan = RolloutPlan(samples, sampling, run, step, budget, budget_seed, _prices(prices))
    engine = (
        endpoint_engine(endpoint, model, policy, api_key_file, concurrency, rate, tries, timeout, logprobs)
        if endpoint is not None
        else vllm_engine(model, policy, vllm_options)
    )
    with ExitStack() as held:
        memory = held.enter_context(opened(into, create=True, device=device)) if into else None
        file = output or memory.folder / "rollouts" / f"{_slug(engine.model)}.jsonl"  # type: ignore[union-attr]
        verifiers = held.enter_context(closing(make_verifiers(code=code))) if grading else None
        with watched(as_json) as progress:
            summary = make_rollouts(asked, engine, file, plan, verifiers=verifiers, memory=memory, progress=progress)
    if as_json:
        print_json(summary.as_json())
    else:
        show_rollouts(summary)
    if summary.failed:
        sys.stdout.flush()
        print(f"error: {_what_failed(summary)}", file=sys.stderr)
        raise typer.Exit(1)


def read_questions(
    sources: list[str], split: str | None, limit: int | None, seed: int, folder: Path | None
) -> list[Question]:
    """The questions of all sources, each once."""
    silence_libraries()
    from memstore_rl.benchmarks import questions

    found: dict[str, Question] = {}
    for source in sources:
        for question in questions(source, split=split, limit=limit, seed=seed, folder=folder):
            found.setdefault(question.id, question)
    return list(found.values())


def endpoint_engine(
    endpoint: str,
    model: str,
    policy: str | None,
    key_file: Path | None,
    concurrency: int,
    rate: float | None,
    tries: int,
    timeout: float,
    logprobs: bool,
) -> Engine:
    """The engine of an endpoint.

    Raises:
        UsageError: aiohttp is missing, or the key cannot be read.
    """
    try:
        from memstore_rl.rollout.endpoint import EndpointEngine
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed; install it with: pip install 'memstore[rollout]'") from error
    from memstore_rl.rollout.retry_policy import Patience

    return EndpointEngine(
        endpoint,
        model,
        policy=policy,
        key=read_key(key_file),
        concurrency=concurrency,
        rate=rate,
        patience=Patience(tries=tries, timeout_s=timeout),
        logprobs=logprobs,
    )


def vllm_engine(model: str, policy: str | None, options: str) -> Engine:
    """The engine that is vLLM in this process.

    Raises:
        UsageError: the options are no JSON object.
        VllmError: vLLM is not installed, or cannot load the model.
    """
    from memstore_rl.rollout.vllm_engine import VllmEngine

    try:
        given = json.loads(options)
    except ValueError as error:
        raise UsageError(f'--vllm-options is no JSON ({error}); it looks like {{"max_model_len": 4096}}') from error
    if not isinstance(given, dict):
        raise UsageError('--vllm-options is no JSON object; it looks like {"max_model_len": 4096}')
    return VllmEngine.load(model, model=policy, options=given)


def read_key(file: Path | None) -> SecretStr | None:
    """The endpoint's key, of a file or of the environment.

    Raises:
        UsageError: the file cannot be read, or holds no key.
    """
    from pydantic import SecretStr

    if file is None:
        given = os.environ.get(KEY_VARIABLE, "").strip()
    else:
        try:
            given = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the key file {file} cannot be read: {error}") from error
    if not given and file is None:
        return None
    if not re.fullmatch(r"[!-~]+", given):
        raise UsageError(f"{file or KEY_VARIABLE} holds no key; it is one line of plain characters without spaces")
    return SecretStr(given)


def _prices(given: tuple[float, float] | None) -> Prices | None:
    from memstore_rl.rollout.summary import Prices

    return Prices(*given) if given else None


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-.") or "model"


def _what_failed(summary: RolloutSummary) -> str:
    return (
        f"{counted(summary.failed, 'rollout')} could not be had ({'; '.join(summary.reasons)}); the others are kept, "
        "and the same command asks for the rest again"
    )


def show_rollouts(summary: RolloutSummary) -> None:
    """Print what a run did."""
    usage = summary.usage
    print(
        f"{counted(summary.queries, 'query', 'queries')} of {summary.model}: {counted(summary.rollouts, 'rollout')} "
        f"new, {summary.held:,} there before, {summary.failed:,} failed"
    )
    if summary.truncated or summary.empty:
        print(f"{summary.truncated:,} cut off, of which no answer is taken; {summary.empty:,} empty")
    mean = f", mean reward {summary.mean_reward:.3f}" if summary.mean_reward is not None else ""
    print(
        f"{counted(summary.labelled, 'query', 'queries')} with a ground truth; "
        f"{counted(summary.graded, 'rollout')} graded{mean}"
    )
    print(
        f"{counted(usage.requests, 'request')}, {usage.retries:,} of them sent again; {usage.prompt_tokens:,} prompt "
        f"and {usage.completion_tokens:,} completion tokens, {summary.tokens_per_second:,.0f} a second"
    )
    if summary.prices is not None:
        print(f"cost: {summary.prices.of(usage):,.2f}")
    if summary.fed is not None:
        fed = summary.fed
        print(f"memory: {counted(fed.added, 'rollout')} added, {fed.unchanged:,} unchanged, {fed.rejected:,} rejected")
        if fed.rejects is not None:
            print(f"rejected rows are kept with their reasons in {fed.rejects}")
    print(f"written to {summary.output} ({summary.seconds:.1f} s)")
