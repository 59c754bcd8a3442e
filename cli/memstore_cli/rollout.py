"""`memstore rollout`: sample a model's answers to benchmarks or files of queries, into a file or a memory."""

from __future__ import annotations

import json
import re
import sys
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memstore_cli.credentials import read_secret
from memstore_cli.library_logging import quiet_libraries
from memstore_cli.open_memory import open_memory
from memstore_cli.options import CodeOption, DataOption, DeviceOption, JsonOption, UsageError, with_option_groups
from memstore_cli.output import counted, print_json
from memstore_cli.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memstore_rl.benchmarks.question import Question
    from memstore_rl.rollout.engine import Engine, Sampling
    from memstore_rl.rollout.run import RolloutPlan
    from memstore_rl.rollout.summary import RolloutSummary

KEY_VARIABLE = "MEMSTORE_API_KEY"


@dataclass(frozen=True)
class QueryOptions:
    """Which queries to sample."""

    queries: Annotated[
        list[str],
        typer.Argument(metavar="QUERIES", help="Names of benchmarks (see memstore datasets), or files of queries."),
    ]
    split: Annotated[
        str | None,
        typer.Option("--split", show_default=False, help="Only queries of this split: train, validation or test."),
    ] = None
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, show_default=False, help="At most this many queries per source.")
    ] = None
    draw_seed: Annotated[
        int, typer.Option("--draw-seed", help="Seed of the sample of queries and of their splits.")
    ] = 0
    data: DataOption = None

    def questions(self) -> list[Question]:
        """The questions of all sources, without duplicates."""
        quiet_libraries()
        from memstore_rl.benchmarks import questions

        by_id: dict[str, Question] = {}
        for source in self.queries:
            for question in questions(
                source, split=self.split, limit=self.limit, seed=self.draw_seed, folder=self.data
            ):
                by_id.setdefault(question.id, question)
        return list(by_id.values())


@dataclass(frozen=True)
class EngineOptions:
    """Which model to sample, and how to reach it."""

    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            show_default=False,
            help="Model name at the endpoint; with --vllm, a folder or a name on a hub.",
        ),
    ]
    endpoint: Annotated[
        str | None,
        typer.Option("--endpoint", metavar="URL", show_default=False, help="OpenAI-compatible server to use."),
    ] = None
    vllm: Annotated[bool, typer.Option("--vllm", help="Run vLLM in this process instead of using a server.")] = False
    vllm_options: Annotated[
        str,
        typer.Option("--vllm-options", metavar="JSON", help='Arguments of vllm.LLM, such as {"max_model_len": 4096}.'),
    ] = "{}"
    policy: Annotated[
        str | None,
        typer.Option(
            "--policy", metavar="NAME", show_default=False, help="Policy name in the records. Default: --model."
        ),
    ] = None
    logprobs: Annotated[bool, typer.Option(help="Request log probabilities; some servers reject that.")] = True
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="Limit of concurrent requests.")] = 64
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, show_default=False, help="Limit of requests per second.")
    ] = None
    tries: Annotated[int, typer.Option("--tries", min=1, help="Tries of a request that fails temporarily.")] = 8
    timeout: Annotated[float, typer.Option("--timeout", metavar="SECONDS", min=0.1, help="Time limit of one try.")] = (
        600.0
    )
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            show_default=False,
            help=f"File with the endpoint's API key. Default: the variable {KEY_VARIABLE}.",
        ),
    ] = None

    def check(self) -> None:
        """Check that exactly one engine is selected."""
        if (self.endpoint is not None) == self.vllm:
            raise UsageError("pass either --endpoint URL for a server, or --vllm for vLLM in this process")

    def engine(self) -> Engine:
        """Create the engine.

        Raises:
            UsageError: a library is missing, the key cannot be read, or the options are not a JSON object.
            VllmError: vLLM is not installed, or cannot load the model.
        """
        return self._vllm_engine() if self.endpoint is None else self._endpoint_engine(self.endpoint)

    def _endpoint_engine(self, endpoint: str) -> Engine:
        try:
            from memstore_rl.rollout.endpoint import RETRIES, EndpointEngine
        except ModuleNotFoundError as error:
            raise UsageError(f"{error.name} is not installed; run: pip install 'memstore[rollout]'") from error
        from dataclasses import replace

        return EndpointEngine(
            endpoint,
            self.model,
            policy=self.policy,
            key=read_secret(self.api_key_file, KEY_VARIABLE, "key"),
            concurrency=self.concurrency,
            rate=self.rate,
            retry_policy=replace(RETRIES, attempts=self.tries),
            timeout_s=self.timeout,
            logprobs=self.logprobs,
        )

    def _vllm_engine(self) -> Engine:
        from memstore_rl.rollout.vllm_engine import VllmEngine

        try:
            arguments = json.loads(self.vllm_options)
        except ValueError as error:
            raise UsageError(
                f'--vllm-options is not valid JSON ({error}); pass an object such as {{"max_model_len": 4096}}'
            ) from error
        if not isinstance(arguments, dict):
            raise UsageError('--vllm-options must be a JSON object, such as {"max_model_len": 4096}')
        return VllmEngine.load(self.model, model=self.policy, options=arguments)


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample."""

    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Rollouts per query.")] = 8
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="Sampling temperature; 0 is greedy.")] = (
        1.0
    )
    top_p: Annotated[float, typer.Option("--top-p", min=0.0, max=1.0, help="Nucleus sampling.")] = 1.0
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Token limit; longer rollouts are truncated and marked.")
    ] = 1024
    seed: Annotated[
        int | None,
        typer.Option("--seed", show_default=False, help="Base seed; each sample gets a seed derived from it."),
    ] = None
    chat: Annotated[bool, typer.Option(help="Apply the model's chat template, or complete the plain prompt.")] = True
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", show_default=False, help="Run name in the records.")
    ] = None
    step: Annotated[
        int | None, typer.Option("--step", show_default=False, help="Training step of the policy in the records.")
    ] = None

    def sampling(self) -> Sampling:
        """The sampling parameters."""
        from memstore_rl.rollout.engine import Sampling

        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=self.seed,
            chat=self.chat,
        )


@dataclass(frozen=True)
class LabelOptions:
    """Which rollouts get a reward, and the price of tokens."""

    grading: Annotated[
        bool, typer.Option("--grade/--no-grade", help="Grade rollouts of queries with a gold answer.")
    ] = True
    code: CodeOption = False
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget",
            min=0.0,
            max=1.0,
            show_default=False,
            help="Keep gold answers and rewards for this share of each dataset's training queries only.",
        ),
    ] = None
    budget_seed: Annotated[int, typer.Option("--budget-seed", help="Seed of the choice of labelled queries.")] = 0
    prices: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--prices",
            metavar="PROMPT COMPLETION",
            show_default=False,
            help="Prices per million prompt and completion tokens, for the cost in the summary.",
        ),
    ] = None

    def plan(self, samples: SamplingOptions) -> RolloutPlan:
        """The plan of the run."""
        from memstore_rl.rollout.run import RolloutPlan
        from memstore_rl.rollout.summary import Prices

        prices = Prices(*self.prices) if self.prices else None
        return RolloutPlan(
            samples.samples, samples.sampling(), samples.run, samples.step, self.budget, self.budget_seed, prices
        )


@dataclass(frozen=True)
class OutputOptions:
    """Where rollouts are stored."""

    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            show_default=False,
            help="JSON lines for memstore ingest; existing rollouts are kept and not sampled again.",
        ),
    ] = None
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="MEMORY",
            show_default=False,
            help="Also ingest into this memory during the run; created if it does not exist.",
        ),
    ] = None
    device: DeviceOption = None

    def check(self, queries: Sequence[str]) -> None:
        """Check that there is an output, and that it is not a file of queries."""
        if self.output is None and self.into is None:
            raise UsageError("no output given; pass --output FILE, --into MEMORY, or both")
        from memstore.checks import check_not_input
        from memstore_rl.benchmarks import benchmarks

        check_not_input(self.output, "rollouts", [source for source in queries if source not in benchmarks()])


@with_option_groups
def rollout(
    queries: QueryOptions,
    model: EngineOptions,
    samples: SamplingOptions,
    labels: LabelOptions,
    outputs: OutputOptions,
    as_json: JsonOption = False,
) -> None:
    """Sample rollouts of queries from a model, grade them, and store them in a file, a memory, or both.

    An interrupted run is resumed by the same command.
    """
    outputs.check(queries.queries)
    model.check()
    questions = queries.questions()
    from memstore_rl.rollout.run import rollout as sample_rollouts
    from memstore_rl.verifiers import make_verifiers

    plan, engine = labels.plan(samples), model.engine()
    with ExitStack() as stack:
        memory = None
        if outputs.into:
            memory = stack.enter_context(open_memory(outputs.into, create=True, device=outputs.device))
        file = outputs.output or memory.folder / "rollouts" / f"{_slug(engine.model)}.jsonl"  # type: ignore[union-attr]
        verifiers = stack.enter_context(closing(make_verifiers(code=labels.code))) if labels.grading else None
        with show_progress(as_json) as progress:
            summary = sample_rollouts(
                questions, engine, file, plan, verifiers=verifiers, memory=memory, progress=progress
            )
    if as_json:
        print_json(summary.as_json())
    else:
        show_rollouts(summary)
    if summary.failed:
        sys.stdout.flush()
        print(f"error: {_failure_message(summary)}", file=sys.stderr)
        raise typer.Exit(1)


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", model).strip("-.") or "model"


def _failure_message(summary: RolloutSummary) -> str:
    return (
        f"{counted(summary.failed, 'rollout')} failed ({'; '.join(summary.reasons)}); the others were written; run the "
        "same command again to retry the failed ones"
    )


def show_rollouts(summary: RolloutSummary) -> None:
    """Print the summary of a run."""
    usage = summary.usage
    print(
        f"{counted(summary.queries, 'query', 'queries')}, model {summary.model}: "
        f"{counted(summary.rollouts, 'new rollout')}, {summary.existing:,} existing, {summary.failed:,} failed"
    )
    if summary.truncated or summary.empty:
        print(f"{summary.truncated:,} truncated (no answer is read from these), {summary.empty:,} empty")
    mean = f", mean reward {summary.mean_reward:.3f}" if summary.mean_reward is not None else ""
    print(
        f"{counted(summary.labelled, 'query', 'queries')} with a ground truth; "
        f"{counted(summary.graded, 'rollout')} graded{mean}"
    )
    print(
        f"{counted(usage.requests, 'request')}, {usage.retries:,} of them retries; {usage.prompt_tokens:,} prompt "
        f"and {usage.completion_tokens:,} completion tokens, {summary.tokens_per_second:,.0f} per second"
    )
    if summary.prices is not None:
        print(f"cost: {summary.prices.cost(usage):,.2f}")
    if summary.ingested is not None:
        counts = summary.ingested
        print(
            f"memory: {counted(counts.added, 'rollout')} added, {counts.unchanged:,} unchanged, "
            f"{counts.rejected:,} rejected"
        )
        if counts.rejects is not None:
            print(f"rejected rows and their reasons are in {counts.rejects}")
    print(f"written to {summary.output} ({summary.seconds:.1f} s)")
