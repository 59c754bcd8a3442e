"""The steps of a plan, in an order in which each comes after those that it needs.

    queries/NAME                     the questions of a benchmark, as a file
    data/SHARE                       training data of verl and TRL
    POLICY/rollouts                  rollouts of the training queries
    POLICY/memory                    the memory of these rollouts
    POLICY/reward-model-PERCENT      a reward model for each label budget
    POLICY/score                     its predictions, in the memory
    POLICY/predictors                predictors of rewards, compared on hidden labels
    POLICY/start/{test,grade}        rollouts of the test queries before the training, and their accuracy
    POLICY/RUN/recipe                overrides of verl
    POLICY/RUN/training              the training, which the plan's command runs
    POLICY/RUN/{test,grade}          as of the start, after the training
    POLICY/RUN/compare               an ablation against its run

Each is a command of memstore, apart from the training. Paths are relative to the folder of the reproduction.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from memstore.errors import InputError
from memstore_rl.reproduction.costs import Costs
from memstore_rl.reproduction.placeholders import filled
from memstore_rl.reproduction.plan import Engine, Plan, PlanFile, Policy, Run
from memstore_rl.reproduction.sources import Source, Sources, file_digests
from memstore_rl.reproduction.step import Raw, Server, Step, memstore, options

START = "start"
"""Name of a policy's state before any training."""
GRADE, COMPARISON, PREDICTORS = "grade.json", "compare.json", "predictors.json"


def steps_of(file: PlanFile, sources: Sources, folder: Path) -> list[Step]:
    """The steps of a plan.

    Raises:
        InputError: a path of the plan does not exist.
    """
    return list(_StepMaker(file, sources, folder).steps())


def percent(share: float) -> str:
    """`20` for 0.2, as `memstore verl data` names its files."""
    return f"{share * 100:g}"


class _StepMaker:
    """Makes the steps of one plan."""

    def __init__(self, file: PlanFile, sources: Sources, folder: Path) -> None:
        self.plan: Plan = file.plan
        self.place = file.folder
        self.sources = sources
        self.runs = file.plan.training.all_runs()
        self.costs = Costs(file.plan, sources, folder)
        self.digests = file_digests(file, sources.all)
        self.queries = tuple(f"queries/{source.name}" for source in sources.all if source.declaration is not None)

    def steps(self) -> Iterator[Step]:
        """All steps."""
        yield from (self._queries(source) for source in self.sources.all if source.declaration is not None)
        for label in dict.fromkeys(run.labelled_share for run in self.runs):
            yield self._data(label)
        for policy in self.plan.policies:
            yield from self._before_training(policy)
        for policy in self.plan.policies:
            for run in self.runs:
                if self.plan.training.verl is not None:
                    yield self._recipe(policy, run)
        for policy in self.plan.policies:
            for run in self.runs:
                yield from self._trained(policy, run)

    def _step(self, name: str, command: str, **values: object) -> Step:
        identity = str(values.pop("identity", command))
        read = [digest for path, digest in self.digests.items() if str(path) in identity]
        identity = " ".join([identity.replace(str(self.place), "{plan}"), *read])
        return Step(name, command, identity, **values)  # type: ignore[arg-type]

    def _queries(self, source: Source) -> Step:
        queries = self.plan.queries
        asked = {"--seed": queries.seed, "--limit": queries.limit, "--system": queries.system}
        where = options({"--data": self._existing(queries.data, "queries.data")})
        words = [source.argument, *options(asked), "--output", source.file]
        return self._step(
            f"queries/{source.name}",
            memstore("datasets", *words, *where, "--json"),
            identity=memstore("datasets", *words),
            outputs=(source.file,),
            estimate=self.costs.queries(),
        )

    def _data(self, labelled_share: str | None) -> Step:
        training, runs = self.plan.training, [run for run in self.runs if run.labelled_share == labelled_share]
        batched = any(run.mode == "memory" for run in runs)
        asked = {
            "--budget": sorted({run.budget for run in runs if run.budget is not None}),
            "--mode": list(dict.fromkeys("oracle" if run.mode == "verdict" else run.mode for run in runs)),
            "--seed": self.plan.reward_models.seed,
            "--system": self.plan.queries.system,
            "--labelled-share": labelled_share if batched else None,
            "--batch-size": training.batch_size if batched and labelled_share != "none" else None,
        }
        output = _data_folder(labelled_share)
        files = [source.file for source in self.sources.in_domain]
        return self._step(
            output,
            memstore("verl data", *files, *options(asked), "--output", output, "--json"),
            needs=self._queries_of(self.sources.in_domain),
            outputs=(output,),
            estimate=self.costs.queries(),
        )

    def _before_training(self, policy: Policy) -> Iterator[Step]:
        yield self._rollouts(policy)
        yield self._step(
            f"{policy.name}/memory",
            memstore("ingest", f"{policy.name}/rollouts.jsonl", "--memory", f"{policy.name}/memory", "--json"),
            needs=(f"{policy.name}/rollouts",),
            outputs=(f"{policy.name}/memory",),
            resumes=True,
            estimate=self.costs.ingest(),
        )
        yield from self._reward_models(policy)
        yield self._predictors(policy)
        yield self._test(policy, None)
        yield self._grade(policy, None)

    def _rollouts(self, policy: Policy) -> Step:
        asked = self.plan.rollouts
        output = f"{policy.name}/rollouts.jsonl"
        sampling = {
            "-n": asked.samples, "--temperature": asked.temperature, "--top-p": asked.top_p,
            "--max-tokens": asked.max_tokens, "--seed": asked.seed, "--run": START, "--step": 0,
        }  # fmt: skip
        return self._sampling(
            f"{policy.name}/rollouts",
            policy,
            [*(source.file for source in self.sources.in_domain), "--split", "train"],
            [*options({"--model": policy.model, "--policy": policy.name, **sampling}), "--output", output],
            needs=self._queries_of(self.sources.in_domain),
            output=output,
            values={"policy": policy.name, "model": policy.model},
            estimate=self.costs.rollouts(gpu=policy.vllm),
        )

    def _sampling(
        self,
        name: str,
        engine: Engine,
        queries: list[str],
        sampling: list[object],
        *,
        needs: tuple[str, ...],
        output: str,
        values: dict[str, str],
        **further: object,
    ) -> Step:
        """A step of `memstore rollout`."""
        values = {"plan": shlex.quote(str(self.place)), **values}
        endpoint = None if engine.endpoint is None else filled(engine.endpoint, values)
        code = options({"--code": self.plan.queries.code, "--no-chat": not engine.chat})
        reached = {
            "--endpoint": endpoint and Raw(endpoint if "{port}" in endpoint else shlex.quote(endpoint)),
            "--vllm": engine.vllm, "--vllm-options": engine.vllm_options,
            "--api-key-file": self._existing(engine.api_key_file, "api_key_file"),
            "--concurrency": engine.concurrency, "--rate": engine.rate, "--timeout": engine.timeout,
            "--tries": engine.tries, "--no-logprobs": not engine.logprobs,
        }  # fmt: skip
        words = [*queries, *sampling, *code]
        server = None
        if engine.serve is not None and endpoint is not None:
            server = Server(filled(engine.serve, {name: shlex.quote(value) for name, value in values.items()}
                                   | {"plan": values["plan"]}), endpoint)  # fmt: skip
        return self._step(
            name,
            memstore("rollout", *words, *options(reached), "--json"),
            identity=memstore("rollout", *words),
            needs=needs,
            outputs=(output,),
            resumes=True,
            server=server,
            gpu=engine.vllm,
            brought=(output,),
            **further,
        )

    def _reward_models(self, policy: Policy) -> Iterator[Step]:
        seed = self.plan.reward_models.seed
        budgets = self._model_budgets()
        for budget in budgets:
            words = {"--budget": budget, "--seed": seed, "--memory": f"{policy.name}/memory"}
            document = f"{policy.name}/{_model(budget)}.json"
            command = memstore("train", *options(words), "--json", Raw(f"> {shlex.quote(document)}"))
            id_of = rf"""sed -n 's/^  "model": "\(.*\)",$/\1/p' {shlex.quote(document)}"""
            yield self._step(
                f"{policy.name}/{_model(budget)}",
                f"{command} && {id_of} > {shlex.quote(_model_id(policy, budget))}",
                needs=(f"{policy.name}/memory",),
                outputs=(document, _model_id(policy, budget)),
                estimate=self.costs.reward_model(),
            )
        if budgets:
            words = {"--model": _model_word(policy, budgets[0]), "--memory": f"{policy.name}/memory"}
            yield self._step(
                f"{policy.name}/score",
                memstore("score", *options(words), "--json"),
                needs=(f"{policy.name}/{_model(budgets[0])}",),
                resumes=True,
                estimate=self.costs.score(),
            )

    def _model_budgets(self) -> list[float]:
        """Label budgets of the reward models that the trainings use; that of a verifier sees the smallest budget."""
        own = sorted({run.budget for run in self.runs if run.mode == "memory" and run.budget is not None})
        if not own and any(run.mode == "verdict" for run in self.runs):
            return [min((run.budget for run in self.runs if run.budget is not None), default=0.2)]
        return own

    def _predictors(self, policy: Policy) -> Step:
        asked = self.plan.reward_models
        words = {
            "--budget": list(asked.budgets), "--seed": list(asked.seeds), "--predictor": list(asked.predictors),
            "--memory": f"{policy.name}/memory",
        }  # fmt: skip
        output = f"{policy.name}/{PREDICTORS}"
        return self._step(
            f"{policy.name}/predictors",
            memstore("evaluate", *options(words), "--json", Raw(f"> {shlex.quote(output)}")),
            needs=(f"{policy.name}/memory",),
            outputs=(output,),
            estimate=self.costs.predictors(),
        )

    def _recipe(self, policy: Policy, run: Run) -> Step:
        training, output = self.plan.training, f"{policy.name}/{run.name}/overrides"
        recipe = self._existing(policy.recipe, "recipe")
        memory = run.mode in ("memory", "verdict")
        words = {
            "--verl": training.verl, "--mode": run.mode,
            "--memory": _whole(f"{policy.name}/memory") if memory else None,
            "--model": self._reward_model(policy, run), "--n": training.n, "--batch-size": training.batch_size,
            "--train": _whole(_train_file(run)),
            "--validation": _whole(f"{_data_folder(run.labelled_share)}/validation.parquet"),
            "--verifier-calls": training.verifier_calls if run.mode == "verdict" else None,
        }  # fmt: skip
        config = memstore("verl config", *options(words))
        own = [*(["+memstore.run_code=True"] if self.plan.queries.code else []), *run.overrides]
        further = f" && printf '%s\\n' {shlex.join(own)} >> {shlex.quote(output)}" if own else ""
        model = (f"{policy.name}/{_model(run.budget or self._model_budgets()[0])}",) if memory else ()
        return self._step(
            f"{policy.name}/{run.name}/recipe",
            f"grep -v '^#' {shlex.quote(str(recipe))} > {shlex.quote(output)} && {config} >> {shlex.quote(output)}"
            + further,
            needs=model,
            outputs=(output,),
            estimate=self.costs.short(),
        )

    def _trained(self, policy: Policy, run: Run) -> Iterator[Step]:
        yield self._training(policy, run)
        yield self._test(policy, run)
        yield self._grade(policy, run)
        if run.ablation_of is not None:
            own, other = f"{policy.name}/{run.name}", f"{policy.name}/{run.ablation_of}"
            words = [f"{own}/test.jsonl", "--against", f"{other}/test.jsonl", "--pool", *self._code()]
            output = f"{own}/{COMPARISON}"
            yield self._step(
                f"{own}/compare",
                memstore("grade", *words, "--json", Raw(f"> {shlex.quote(output)}")),
                needs=(f"{own}/test", f"{other}/test"),
                outputs=(output,),
                estimate=self.costs.short(),
            )

    def _training(self, policy: Policy, run: Run) -> Step:
        training, own = self.plan.training, f"{policy.name}/{run.name}"
        model = self._reward_model(policy, run)
        texts = {
            "plan": str(self.place), "policy": policy.name, "model": policy.model, "run": run.name, "mode": run.mode,
            "train": _train_file(run), "validation": f"{_data_folder(run.labelled_share)}/validation.parquet",
            "memory": f"{policy.name}/memory", "overrides": f"{own}/overrides", "checkpoint": f"{own}/checkpoint",
            "work": f"{own}/work", "n": str(training.n), "batch_size": str(training.batch_size),
            "seed": str(training.seed),
        }  # fmt: skip
        values = {name: shlex.quote(text) for name, text in texts.items()}
        values |= {"reward_model": str(model or "''"), "settings": shlex.join(run.overrides)}
        if run.overrides and training.verl is None and "{settings}" not in training.command:
            raise InputError(
                f"the ablation {run.name} has overrides that training.command does not pass on; put {{settings}} there"
            )
        needs = [_data_folder(run.labelled_share)]
        needs += [f"{own}/recipe"] if training.verl is not None else []
        needs += [f"{policy.name}/{_model(run.budget or self._model_budgets()[0])}"] if model is not None else []
        return self._step(
            f"{own}/training",
            filled(training.command, values),
            needs=tuple(needs),
            outputs=(f"{own}/checkpoint",),
            gpu=training.gpu,
            brought=(f"{own}/checkpoint", f"{own}/test.jsonl"),
            estimate=self.costs.training(run, policy.gpus),
        )

    def _reward_model(self, policy: Policy, run: Run) -> Raw | None:
        if run.mode not in ("memory", "verdict"):
            return None
        return _model_word(policy, run.budget or self._model_budgets()[0])

    def _test(self, policy: Policy, run: Run | None) -> Step:
        asked, name = self.plan.evaluation, run.name if run else START
        own = f"{policy.name}/{name}"
        engine: Engine = self.plan.checkpoints if run else policy
        values = {"policy": policy.name, "run": name, "checkpoint": f"{own}/checkpoint", "model": policy.model}
        model = filled(self.plan.checkpoints.model, values) if run else policy.model
        sampling = {
            "-n": asked.samples, "--temperature": asked.temperature, "--max-tokens": asked.max_tokens,
            "--seed": asked.seed, "--run": name,
        }  # fmt: skip
        return self._sampling(
            f"{own}/test",
            engine,
            [*(source.file for source in self.sources.all), "--split", "test"],
            [*options({"--model": model, "--policy": policy.name, **sampling}), "--output", f"{own}/test.jsonl"],
            needs=(*self._queries_of(self.sources.all), *([f"{own}/training"] if run else [])),
            output=f"{own}/test.jsonl",
            values=values,
            requires=(f"{own}/checkpoint",) if run else (),
            estimate=self.costs.test(gpu=engine.vllm),
        )

    def _grade(self, policy: Policy, run: Run | None) -> Step:
        own = f"{policy.name}/{run.name if run else START}"
        words = [f"{own}/test.jsonl", "--pool", *self._code(), "--json", Raw(f"> {shlex.quote(f'{own}/{GRADE}')}")]
        return self._step(
            f"{own}/grade",
            memstore("grade", *words),
            needs=(f"{own}/test",),
            outputs=(f"{own}/{GRADE}",),
            estimate=self.costs.short(),
        )

    def _code(self) -> list[object]:
        return options({"--code": self.plan.queries.code})

    def _queries_of(self, sources: list[Source]) -> tuple[str, ...]:
        return tuple(name for source in sources if (name := f"queries/{source.name}") in self.queries)

    def _existing(self, path: Path | None, key: str) -> Path | None:
        """The absolute path of a file or folder that the plan names."""
        if path is None:
            return None
        whole = (self.place / path.expanduser()).resolve()
        if not whole.exists():
            raise InputError(f"{key} of the plan is {path}, and {whole} does not exist; correct it")
        return whole


def _whole(path: str) -> Raw:
    """The absolute path, since the processes of a trainer may run in other folders."""
    return Raw(f'"$PWD"/{shlex.quote(path)}')


def _data_folder(labelled_share: str | None) -> str:
    return f"data/{labelled_share or 'default'}"


def _train_file(run: Run) -> str:
    folder = _data_folder(run.labelled_share)
    if run.budget is None:
        return f"{folder}/train_oracle.parquet"
    return f"{folder}/train_{run.mode}_{percent(run.budget)}.parquet"


def _model(budget: float) -> str:
    return f"reward-model-{percent(budget)}"


def _model_id(policy: Policy, budget: float) -> str:
    return f"{policy.name}/{_model(budget)}.id"


def _model_word(policy: Policy, budget: float) -> Raw:
    return Raw(f'"$(cat {shlex.quote(_model_id(policy, budget))})"')
