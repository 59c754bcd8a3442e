"""The steps of a plan, in an order in which each comes after those that it needs.

    queries/NAME                     the questions of a benchmark, as a file
    data/RUN                         training data of verl and TRL
    POLICY/rollouts                  rollouts of the training queries
    POLICY/memory                    the memory of these rollouts
    POLICY/reward-model-PERCENT      a reward model for each label budget
    POLICY/score                     its predictions, in the memory
    POLICY/predictors-PERCENT        predictors of rewards, compared on hidden labels
    POLICY/start/{test,grade}        rollouts of the test queries before the training, and their accuracy
    POLICY/RUN/recipe                overrides of verl
    POLICY/RUN/training              the training, which the plan's command runs
    POLICY/RUN/{test,grade}          as of the start, after the training
    POLICY/RUN/compare               an ablation against its run

Each is a command of memstore, apart from the training. Paths are relative to the folder of the reproduction.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

from memstore.errors import InputError
from memstore_rl.reproduction.context import Context
from memstore_rl.reproduction.layout import data_folder
from memstore_rl.reproduction.plan import PlanFile
from memstore_rl.reproduction.policy_steps import policy_steps
from memstore_rl.reproduction.run_steps import data_step, measure_steps, recipe_step, run_steps
from memstore_rl.reproduction.sources import Source, Sources
from memstore_rl.reproduction.step import Step, memstore, options


def steps_of(file: PlanFile, sources: Sources, folder: Path) -> list[Step]:
    """The steps of a plan.

    Raises:
        InputError: a path of the plan does not exist, or an ablation's overrides would be lost.
    """
    return list(_steps(Context(file, sources, folder)))


def steps_to_redo(steps: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps of these names and all that need them, in order.

    Raises:
        InputError: there is no step of a name.
    """
    known = [step.name for step in steps]
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else "--dry-run lists the steps"
            raise InputError(f"the plan has no step {name!r}; {hint}")
    again = set(names)
    for step in steps:
        if again.intersection(step.needs):
            again.add(step.name)
    return [step for step in steps if step.name in again]


def _steps(context: Context) -> Iterator[Step]:
    plan = context.plan
    yield from (_queries(context, source) for source in context.sources.all if source.declaration is not None)
    yield from (data_step(context, run) for run in {data_folder(run): run for run in context.runs}.values())
    for policy in plan.policies:
        yield from policy_steps(context, policy)
        yield from measure_steps(context, policy, None)
    pairs = [(policy, run) for policy in plan.policies for run in context.runs]
    if plan.training.verl is not None:
        yield from (recipe_step(context, *pair) for pair in pairs)
    for pair in pairs:
        yield from run_steps(context, *pair)


def _queries(context: Context, source: Source) -> Step:
    queries = context.plan.queries
    asked = {"--seed": queries.seed, "--limit": queries.limit, "--system": queries.system}
    words = [source.argument, *options(asked), "--output", source.file]
    where = options({"--data": context.existing(queries.data, "queries.data")})
    return context.step(
        f"queries/{source.name}",
        memstore("datasets", *words, *where, "--json"),
        identity=memstore("datasets", *words),
        outputs=(source.file,),
        estimate=context.costs.queries(),
    )
