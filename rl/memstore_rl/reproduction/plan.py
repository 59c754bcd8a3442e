"""The plan of a reproduction: a TOML file with benchmarks, policies, label budgets and trainings.

    [queries]
    in_domain = ["gsm8k", "mmlu"]             names of benchmarks, declarations (.toml), or files of queries with splits
    out_of_domain = ["piqa"]

    [[policies]]
    name = "qwen2.5-1.5b"
    model = "Qwen/Qwen2.5-1.5B-Instruct"
    endpoint = "http://127.0.0.1:8000/v1"

    [training]
    runs = ["oracle", "budget-20", "memory-20", "memory-30"]
    command = "python train.py --data {train} --output {checkpoint}"

    [checkpoints]
    vllm = true

The fields of the classes below are the keys. A relative path is relative to the folder of the plan's file. Keys that
are missing have the values of the paper. An unknown key is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from memstore.errors import InputError
from memstore_rl.benchmarks.toml_file import read_toml
from memstore_rl.reproduction.placeholders import CHECKPOINT_WORDS, POLICY_WORDS, TRAINING_WORDS, check_words
from memstore_rl.reproduction.plan_errors import clause
from memstore_rl.reproduction.plan_names import checked_name, repeated
from memstore_rl.trainers.verl.config import parse_version

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
RunMode = Literal["oracle", "budget", "memory", "verdict"]

_RUN = re.compile(r"(?P<mode>oracle|verdict)|(?P<labelled>budget|memory)-(?P<percent>\d{1,2}(?:\.\d+)?|100)")


class _Keys(BaseModel):
    """A table of the plan."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _has_no_nul(cls, value: object) -> object:
        if any(isinstance(text, str) and "\0" in text for text in (value if isinstance(value, list) else [value])):
            raise ValueError("has a NUL character, which no command can be given; remove it")
        return value


class Queries(_Keys):
    """`[queries]`: which queries are asked."""

    in_domain: tuple[str, ...] = Field(min_length=1)
    """Benchmarks whose training queries are trained on, and whose test queries are measured."""
    out_of_domain: tuple[str, ...] = ()
    """Benchmarks of which only the test queries are used."""
    seed: Seed = 0
    """Seed of the sample of each benchmark and of its splits."""
    limit: Positive | None = None
    """At most this many queries of each benchmark and split."""
    data: Path | None = None
    """Folder with local copies of the benchmarks."""
    code: bool = False
    """Grade programs by running them in the sandbox."""
    system: str | None = None
    """A system message for rollouts, training and evaluation, in place of the prompts of the benchmarks."""


class Engine(_Keys):
    """How a model is sampled: at an endpoint, which `serve` may start, or by vLLM in the process of the command."""

    endpoint: str | None = None
    """Address of an OpenAI-compatible server; `{port}` is the port that `serve` is given."""
    serve: str | None = None
    """A shell command that serves the model until it is stopped."""
    vllm: bool = False
    vllm_options: str | None = None
    """Arguments of `vllm.LLM`, as JSON."""
    api_key_file: Path | None = None
    concurrency: Positive | None = None
    rate: float | None = Field(default=None, gt=0)
    """At most this many requests a second."""
    timeout: float | None = Field(default=None, gt=0)
    tries: Positive | None = None
    logprobs: bool = True
    chat: bool = True

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if (self.endpoint is None) == (not self.vllm):
            raise ValueError("needs either an endpoint or vllm = true")
        if self.endpoint is not None and not _is_address(self.endpoint.replace("{port}", "8000")):
            raise ValueError(f"has the endpoint {self.endpoint!r}, which is no address; write http://HOST:PORT/v1")
        if "{port}" in (self.endpoint or "") and "{port}" not in (self.serve or ""):
            raise ValueError("has {port} in its endpoint, which needs serve with {port}")
        if self.serve and self.vllm:
            raise ValueError("has serve and vllm = true; keep one of them")
        return self


class Policy(Engine):
    """`[[policies]]`: a policy before its training, and how it is sampled."""

    name: str
    model: str = Field(min_length=1)
    """Name of the model at the endpoint; with vllm, a folder or a name on a hub."""
    recipe: Path | None = None
    """Overrides of verl for this policy, one a line."""
    gpus: Positive = 1
    """GPUs of a training, for the estimate."""

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return checked_name(name)


class Checkpoints(Engine):
    """`[checkpoints]`: how a trained policy is sampled."""

    model: str = "{checkpoint}"
    """Name of the model at the endpoint."""


class Rollouts(_Keys):
    """`[rollouts]`: the rollouts of the training queries by the policies before their training."""

    samples: Positive = 8
    temperature: float = Field(default=1.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    max_tokens: Positive = 1024
    seed: Seed = 0


class Evaluation(_Keys):
    """`[evaluation]`: the rollouts of the test queries by every policy, before and after its training."""

    samples: Positive = 1
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: Positive = 1024
    seed: Seed = 0


class RewardModels(_Keys):
    """`[reward_models]`: the predictors of rewards that are compared on hidden labels."""

    budgets: tuple[Share, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    predictors: tuple[str, ...] = Field(
        default=("vote_share", "logistic", "memstore", "paper", "paper_reversed"), min_length=1
    )
    seed: Seed = 0
    """Seed of the label budgets and of the reward models that the trainings use."""

    @field_validator("budgets", "seeds", "predictors")
    @classmethod
    def _are_unique(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if (twice := repeated(f"{value:g}" if isinstance(value, float) else value for value in values)) is not None:
            raise ValueError(f"names {twice} twice")
        return values


class Run(NamedTuple):
    """A training: where its rewards come from, and the share of the queries that are labelled."""

    name: str
    mode: RunMode
    budget: float | None
    """None where every query is labelled (`oracle`) or the verifier is asked (`verdict`)."""
    overrides: tuple[str, ...] = ()
    labelled_share: str | None = None
    ablation_of: str | None = None


class Ablation(_Keys):
    """`[[training.ablations]]`: a training that differs from one of `runs` in some settings."""

    name: str
    of: str
    """The run that it is compared with."""
    overrides: tuple[str, ...] = ()
    """Further overrides of verl, as the placeholder `{settings}` of the training's command passes them."""
    labelled_share: str | None = None
    """Share of labelled rows in each batch of mode memory, or `none`."""

    @field_validator("name")
    @classmethod
    def _is_name(cls, name: str) -> str:
        return checked_name(name)

    @field_validator("labelled_share")
    @classmethod
    def _is_share(cls, text: str | None) -> str | None:
        if text is not None and text != "none" and not re.fullmatch(r"0?\.\d+|1(\.0)?", text):
            raise ValueError('must be a share such as "0.5", or "none"')
        return text


class Training(_Keys):
    """`[training]`: the trainings of each policy, and the command that runs one."""

    runs: tuple[str, ...] = ("oracle", "budget-20", "memory-20", "memory-30", "memory-40", "memory-50", "memory-60",
                             "memory-70")  # fmt: skip
    """`oracle`, `verdict`, or `budget-` or `memory-` and a percentage."""
    ablations: tuple[Ablation, ...] = ()
    command: str
    """A shell command that trains one policy in one run and writes the model to `{checkpoint}`."""
    gpu: bool = True
    """The command needs a GPU: on a machine without one the reproduction stops before it."""
    verl: str | None = None
    """Version of verl, whose overrides are written to `{overrides}`."""
    n: Positive = 8
    """Rollouts of a group."""
    batch_size: Positive = 128
    """Prompts of a training batch."""
    epochs: Positive = 3
    """Epochs of a training."""
    verifier_calls: Positive | None = None
    """Verifier calls a step of the run `verdict`."""
    seed: Seed = 0

    @field_validator("runs")
    @classmethod
    def _are_runs(cls, runs: tuple[str, ...]) -> tuple[str, ...]:
        for name in runs:
            _parsed_run(name)
        if len({(run.mode, run.budget) for run in map(_parsed_run, runs)}) < len(runs):
            raise ValueError("names a run twice")
        return runs

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (twice := repeated(ablation.name for ablation in self.ablations)) is not None:
            raise ValueError(f"has two ablations of the name {twice}; rename one of them")
        for ablation in self.ablations:
            if ablation.labelled_share is not None and not ablation.of.startswith("memory-"):
                raise ValueError(
                    f"has the ablation {ablation.name} with labelled_share, which only runs of mode memory use, and "
                    f"{ablation.of} is none"
                )
            if ablation.of not in self.runs:
                raise ValueError(f"has the ablation {ablation.name} of {ablation.of}, which is not among the runs")
            if ablation.name in self.runs:
                raise ValueError(f"has an ablation and a run of the name {ablation.name}; rename the ablation")
        if "verdict" in self.runs and self.verifier_calls is None:
            raise ValueError("has the run verdict, which needs verifier_calls, the verifier calls of a step")
        return self

    def all_runs(self) -> list[Run]:
        """The runs and then the ablations."""
        runs = {name: _parsed_run(name) for name in self.runs}
        ablations = [
            runs[each.of]._replace(
                name=each.name,
                overrides=each.overrides,
                labelled_share=each.labelled_share,
                ablation_of=each.of,
            )
            for each in self.ablations
        ]
        return [*runs.values(), *ablations]


class Assumptions(_Keys):
    """`[assumptions]`: what the estimates of `--dry-run` assume."""

    prompt_tokens: Positive = 250
    """Tokens of a prompt."""
    completion_tokens: Positive = 400
    """Tokens of a response."""
    endpoint_tokens_per_second: float = Field(default=2_500, gt=0)
    """Completion tokens a second at the endpoint or by vLLM, over all requests."""
    gpu_tokens_per_second: float = Field(default=1_500, gt=0)
    """Tokens of rollouts that a training samples and learns from, a second and GPU."""
    cpu_training_seconds: float = Field(default=60, ge=0)
    """Seconds of a training with `gpu = false`."""
    cpu_texts_per_second: float = Field(default=100, gt=0)
    """Texts embedded a second; an ingest embeds two for each rollout."""
    prices: tuple[float, float] | None = None
    """Prices per million prompt and completion tokens at the endpoint."""


class Plan(_Keys):
    """A plan, as its file gives it."""

    queries: Queries
    policies: tuple[Policy, ...] = Field(min_length=1)
    rollouts: Rollouts = Rollouts()
    reward_models: RewardModels = RewardModels()
    training: Training
    checkpoints: Checkpoints
    evaluation: Evaluation = Evaluation()
    assumptions: Assumptions = Assumptions()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if repeated(policy.name for policy in self.policies) is not None:
            raise ValueError("two policies have the same name")
        sources = [*self.queries.in_domain, *self.queries.out_of_domain]
        if twice := {source for source in sources if sources.count(source) > 1}:
            raise ValueError(f"the benchmark {min(twice)} is named twice")
        if self.training.verl is not None:
            try:
                parse_version(self.training.verl)
            except InputError as error:
                raise ValueError(f"has a training.verl that does not fit: {error}") from error
        if self.training.verl is not None and (bare := [each.name for each in self.policies if each.recipe is None]):
            raise ValueError(f"training.verl needs a recipe for each policy, and {bare[0]} has none")
        self._check_placeholders()
        return self

    def _check_placeholders(self) -> None:
        check_words("training.command", self.training.command, TRAINING_WORDS)
        if self.training.verl is None and "{overrides}" in self.training.command:
            raise ValueError("training.command uses {overrides}, which needs training.verl")
        for policy in self.policies:
            check_words("policies.serve", policy.serve or "", POLICY_WORDS)
            check_words("policies.endpoint", policy.endpoint or "", POLICY_WORDS)
        check_words("checkpoints.endpoint", self.checkpoints.endpoint or "", CHECKPOINT_WORDS)
        check_words("checkpoints.serve", self.checkpoints.serve or "", CHECKPOINT_WORDS)
        check_words("checkpoints.model", self.checkpoints.model, CHECKPOINT_WORDS)


class PlanFile(NamedTuple):
    """A plan and the folder that its relative paths refer to."""

    plan: Plan
    path: Path

    @property
    def folder(self) -> Path:
        """Absolute folder of the file."""
        return self.path.resolve().parent


def read_plan(path: Path) -> PlanFile:
    """Read a plan.

    Raises:
        InputError: the file cannot be read, is not TOML, or a key is missing, unknown or invalid.
    """
    document = read_toml(path)
    try:
        return PlanFile(Plan.model_validate(document), path)
    except ValidationError as error:
        raise InputError(f"{path} is not a valid plan: {clause(error, Plan)}") from error


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:  # the port is no number
        return False


def _parsed_run(name: str) -> Run:
    found = _RUN.fullmatch(name)
    if found is None:
        raise ValueError(
            f"has the run {name!r}; use oracle, verdict, or budget- or memory- and a percentage, budget-20"
        )
    if found["mode"]:
        return Run(name, found["mode"], None)  # type: ignore[arg-type]
    budget = round(float(found["percent"]) / 100, 6)
    if not budget:
        raise ValueError(f"has the run {name!r}, which labels nothing")
    return Run(name, found["labelled"], budget)  # type: ignore[arg-type]
