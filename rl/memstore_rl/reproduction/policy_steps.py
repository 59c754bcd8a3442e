"""The steps of a policy before its trainings: rollouts, memory, reward models, predictors."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from memstore_rl.reproduction.context import Context
from memstore_rl.reproduction.layout import START, memory_of, model_of, model_word, predictors_of, rollouts_of
from memstore_rl.reproduction.plan import Policy
from memstore_rl.reproduction.step import Raw, Step, memstore, options


def policy_steps(context: Context, policy: Policy) -> Iterator[Step]:
    """The steps of one policy, in order."""
    yield _rollouts(context, policy)
    yield context.step(
        memory_of(policy),
        memstore("ingest", rollouts_of(policy), "--memory", memory_of(policy), "--json"),
        needs=(f"{policy.name}/rollouts",),
        outputs=(memory_of(policy),),
        resumes=True,
        estimate=context.costs.ingest(),
    )
    budgets = context.model_budgets()
    yield from (_reward_model(context, policy, budget) for budget in budgets)
    if budgets:
        words = {"--model": model_word(policy, budgets[0]), "--memory": memory_of(policy)}
        yield context.step(
            f"{policy.name}/score",
            memstore("score", *options(words), "--json"),
            needs=(model_of(policy, budgets[0]),),
            resumes=True,
            estimate=context.costs.score(),
        )
    yield from (_predictors(context, policy, budget) for budget in context.plan.reward_models.budgets)


def _rollouts(context: Context, policy: Policy) -> Step:
    asked, sources = context.plan.rollouts, context.sources.in_domain
    sampling = {
        "--split": "train", "--model": policy.model, "--policy": policy.name, "-n": asked.samples,
        "--temperature": asked.temperature, "--top-p": asked.top_p, "--max-tokens": asked.max_tokens,
        "--seed": asked.seed, "--run": START, "--step": 0,
    }  # fmt: skip
    return context.sampling(
        f"{policy.name}/rollouts",
        policy,
        [*(source.file for source in sources), *options(sampling)],
        rollouts_of(policy),
        needs=context.queries_steps(sources),
        values={"policy": policy.name, "model": policy.model},
        estimate=context.costs.rollouts(gpu=policy.vllm),
    )


def _reward_model(context: Context, policy: Policy, budget: float) -> Step:
    name = model_of(policy, budget)
    document, id_file = f"{name}.json", f"{name}.id"
    words = {"--budget": budget, "--seed": context.plan.reward_models.seed, "--memory": memory_of(policy)}
    command = memstore("train", *options(words), "--json", Raw(f"> {shlex.quote(document)}"))
    id_of = rf"""sed -n 's/^  "model": "\(.*\)",$/\1/p' {shlex.quote(document)}"""
    return context.step(
        name,
        f"{command} && {id_of} > {shlex.quote(id_file)}",
        needs=(memory_of(policy),),
        outputs=(document, id_file),
        estimate=context.costs.reward_model(),
    )


def _predictors(context: Context, policy: Policy, budget: float) -> Step:
    asked, name = context.plan.reward_models, predictors_of(policy, budget)
    words = {
        "--budget": budget, "--seed": list(asked.seeds), "--predictor": list(asked.predictors),
        "--memory": memory_of(policy),
    }  # fmt: skip
    return context.step(
        name,
        memstore("evaluate", *options(words), "--json", Raw(f"> {shlex.quote(f'{name}.json')}")),
        needs=(memory_of(policy),),
        outputs=(f"{name}.json",),
        estimate=context.costs.predictors(),
    )
