"""The steps of a training: data, recipe, the training itself, and the measurement of what it has trained."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from memstore.errors import InputError
from memstore_rl.reproduction.context import Context
from memstore_rl.reproduction.layout import (
    COMPARISON,
    GRADE,
    START,
    data_folder,
    memory_of,
    model_of,
    model_word,
    state_folder,
    train_file,
    validation_file,
    whole,
)
from memstore_rl.reproduction.placeholders import filled
from memstore_rl.reproduction.plan import Engine, Policy, Run
from memstore_rl.reproduction.step import Raw, Step, memstore, options


def data_step(context: Context, run: Run) -> Step:
    """Write the training data of a run; runs that differ in nothing but overrides share it."""
    batched, output = run.mode == "memory", data_folder(run)
    asked = {
        "--budget": run.budget,
        "--mode": "oracle" if run.budget is None else run.mode,
        "--seed": context.plan.reward_models.seed,
        "--system": context.plan.queries.system,
        "--labelled-share": run.labelled_share if batched else None,
        "--batch-size": context.plan.training.batch_size if batched and run.labelled_share != "none" else None,
    }
    sources = context.sources.in_domain
    return context.step(
        output,
        memstore("verl data", *(source.file for source in sources), *options(asked), "--output", output, "--json"),
        needs=context.queries_steps(sources),
        outputs=(output,),
        estimate=context.costs.short(),
    )


def recipe_step(context: Context, policy: Policy, run: Run) -> Step:
    """Write the overrides with which verl trains the policy."""
    training, output = context.plan.training, f"{state_folder(policy, run)}/overrides"
    recipe = context.existing(policy.recipe, "recipe")
    model = _reward_model(context, policy, run)
    words = {
        "--verl": training.verl, "--mode": run.mode,
        "--memory": None if model is None else whole(memory_of(policy)), "--model": model,
        "--n": training.n, "--batch-size": training.batch_size,
        "--train": whole(train_file(run)), "--validation": whole(validation_file(run)),
        "--verifier-calls": training.verifier_calls if run.mode == "verdict" else None,
    }  # fmt: skip
    own = state_folder(policy, run)
    further = [
        f"trainer.experiment_name={policy.name}-{run.name}",
        f"trainer.total_epochs={training.epochs}",
        *(["+memstore.run_code=True"] if context.plan.queries.code else []),
        *run.overrides,
    ]
    file, work = shlex.quote(output), f'trainer.default_local_dir="$PWD"/{shlex.quote(f"{own}/work")}'
    config = memstore("verl config", *options(words))
    command = (
        f"grep -v '^#' {shlex.quote(str(recipe))} > {file} && {config} >> {file} && "
        f"printf '%s\\n' {work} {shlex.join(further)} >> {file}"
    )
    return context.step(
        f"{state_folder(policy, run)}/recipe",
        command,
        needs=_reward_model_steps(context, policy, run),
        outputs=(output,),
        estimate=context.costs.short(),
    )


def run_steps(context: Context, policy: Policy, run: Run) -> Iterator[Step]:
    """The training of a policy in a run, and its measurement."""
    yield _training(context, policy, run)
    yield from measure_steps(context, policy, run)
    if run.ablation_of is None:
        return
    own, other = state_folder(policy, run), f"{policy.name}/{run.ablation_of}"
    words = [f"{own}/test.jsonl", "--against", f"{other}/test.jsonl", "--pool", *context.code()]
    yield context.step(
        f"{own}/compare",
        memstore("grade", *words, "--json", Raw(f"> {shlex.quote(f'{own}/{COMPARISON}')}")),
        needs=(f"{own}/test", f"{other}/test"),
        outputs=(f"{own}/{COMPARISON}",),
        estimate=context.costs.short(),
    )


def measure_steps(context: Context, policy: Policy, run: Run | None) -> Iterator[Step]:
    """Rollouts of the test queries and their accuracy, after a run or before any."""
    asked, own, sources = context.plan.evaluation, state_folder(policy, run), context.sources.all
    name, checkpoint = run.name if run else START, f"{own}/checkpoint"
    engine: Engine = context.plan.checkpoints if run else policy
    values = {"policy": policy.name, "run": name, "checkpoint": checkpoint, "model": policy.model}
    sampling = {
        "--split": "test",
        "--model": filled(context.plan.checkpoints.model, values) if run else policy.model,
        "--policy": policy.name, "-n": asked.samples, "--temperature": asked.temperature,
        "--max-tokens": asked.max_tokens, "--seed": asked.seed, "--run": name,
    }  # fmt: skip
    yield context.sampling(
        f"{own}/test",
        engine,
        [*(source.file for source in sources), *options(sampling)],
        f"{own}/test.jsonl",
        needs=(*context.queries_steps(sources), *([f"{own}/training"] if run else [])),
        values=values,
        requires=(checkpoint,) if run else (),
        estimate=context.costs.test(gpu=engine.vllm),
    )
    judged = [f"{own}/test.jsonl", "--pool", *context.code(), "--json", Raw(f"> {shlex.quote(f'{own}/{GRADE}')}")]
    yield context.step(
        f"{own}/grade",
        memstore("grade", *judged),
        needs=(f"{own}/test",),
        outputs=(f"{own}/{GRADE}",),
        estimate=context.costs.short(),
    )


def _training(context: Context, policy: Policy, run: Run) -> Step:
    training, own = context.plan.training, state_folder(policy, run)
    if run.overrides and training.verl is None and "{settings}" not in training.command:
        raise InputError(
            f"the ablation {run.name} has overrides that training.command does not pass on; put {{settings}} there"
        )
    needs = [data_folder(run), *_reward_model_steps(context, policy, run)]
    needs += [f"{own}/recipe"] if training.verl is not None else []
    return context.step(
        f"{own}/training",
        filled(training.command, _training_values(context, policy, run)).strip(),
        needs=tuple(needs),
        outputs=(f"{own}/checkpoint",),
        scratch=(f"{own}/work",),
        gpu=training.gpu,
        brought=(f"{own}/checkpoint", f"{own}/test.jsonl"),
        estimate=context.costs.training(run, policy.gpus),
    )


def _training_values(context: Context, policy: Policy, run: Run) -> dict[str, str]:
    """The placeholders of a training's command."""
    training, own = context.plan.training, state_folder(policy, run)
    texts = {
        "plan": str(context.place), "policy": policy.name, "model": policy.model, "run": run.name, "mode": run.mode,
        "train": train_file(run), "validation": validation_file(run), "memory": memory_of(policy),
        "overrides": f"{own}/overrides", "checkpoint": f"{own}/checkpoint", "work": f"{own}/work",
        "n": str(training.n), "batch_size": str(training.batch_size), "epochs": str(training.epochs),
        "seed": str(training.seed),
    }  # fmt: skip
    model = _reward_model(context, policy, run)
    values = {name: shlex.quote(text) for name, text in texts.items()}
    return values | {"reward_model": "''" if model is None else str(model), "settings": shlex.join(run.overrides)}


def _reward_model(context: Context, policy: Policy, run: Run) -> Raw | None:
    """The reward model of a run; None in the modes that use none."""
    return model_word(policy, _model_budget(context, run)) if run.mode in ("memory", "verdict") else None


def _reward_model_steps(context: Context, policy: Policy, run: Run) -> tuple[str, ...]:
    return (model_of(policy, _model_budget(context, run)),) if run.mode in ("memory", "verdict") else ()


def _model_budget(context: Context, run: Run) -> float:
    return context.model_budgets()[0] if run.budget is None else run.budget
