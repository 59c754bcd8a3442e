"""Names of the steps' files, relative to the folder of a reproduction.

queries/NAME.jsonl                          questions of a benchmark
data/RUN/                                   training data of verl and TRL
POLICY/rollouts.jsonl, POLICY/memory
POLICY/reward-model-PERCENT.json, .id       what training it printed, and its id
POLICY/predictors-PERCENT.json
POLICY/RUN/                                 RUN is `start` before any training
"""

from __future__ import annotations

import shlex

from memstore_rl.reproduction.plan import Policy, Run
from memstore_rl.reproduction.step import Raw

START = "start"
"""Name of a policy's state before any training."""
GRADE, COMPARISON = "grade.json", "compare.json"


def percent(share: float) -> str:
    """`20` for 0.2, as `memstore verl data` names its files."""
    return f"{share * 100:g}"


def state_folder(policy: Policy, run: Run | None) -> str:
    """The folder of a policy after a run; without one, before any training."""
    return f"{policy.name}/{run.name if run else START}"


def rollouts_of(policy: Policy) -> str:
    """Rollouts of the training queries by a policy before its training."""
    return f"{policy.name}/rollouts.jsonl"


def memory_of(policy: Policy) -> str:
    """The memory of these rollouts."""
    return f"{policy.name}/memory"


def model_of(policy: Policy, budget: float) -> str:
    """The reward model of a label budget: the name of its step, and of its files without their suffixes."""
    return f"{policy.name}/reward-model-{percent(budget)}"


def model_word(policy: Policy, budget: float) -> Raw:
    """The id of the reward model, as the shell reads it from its file."""
    return Raw(f'"$(cat {shlex.quote(f"{model_of(policy, budget)}.id")})"')


def predictors_of(policy: Policy, budget: float) -> str:
    """The comparison of predictors at a label budget: the name of its step, and of its file without the suffix."""
    return f"{policy.name}/predictors-{percent(budget)}"


def data_folder(run: Run) -> str:
    """The training data of a run: the name of its step and its folder."""
    mode = "oracle" if run.budget is None else f"{run.mode}-{percent(run.budget)}"
    return f"data/{mode}{'' if run.labelled_share is None else f'-labelled-{run.labelled_share}'}"


def train_file(run: Run) -> str:
    """The training file of a run."""
    name = "oracle" if run.budget is None else f"{run.mode}_{percent(run.budget)}"
    return f"{data_folder(run)}/train_{name}.parquet"


def validation_file(run: Run) -> str:
    """The validation file of a run."""
    return f"{data_folder(run)}/validation.parquet"


def whole(path: str) -> Raw:
    """The absolute path as the shell makes it, since the processes of a trainer may run in other folders."""
    return Raw(f'"$PWD"/{shlex.quote(path)}')
