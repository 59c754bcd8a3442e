"""The paper's experiments from a plan: rollouts, memory, reward models, trainings, evaluation, tables.

plan.py            the plan, a TOML file
plan_names.py      names that become folders
plan_errors.py     what is wrong with a plan
placeholders.py    placeholders of its commands
sources.py         its benchmarks and files of queries
step.py            a step: one command of memstore, or the plan's training
steps.py           the steps of a plan
policy_steps.py    those of a policy before its trainings
run_steps.py       those of a training
context.py         what they are made from
layout.py          names of their files
costs.py           estimates of what they cost
dry_run.py         all commands with their estimates
state.py           the folder: lock, plan, records of what is done
command.py         run a command, with a server beside it
run.py             do what is not done yet
results.py         read what was measured
tables.py          write it as Markdown and JSON
plots.py           draw it
"""

from memstore_rl.reproduction.dry_run import dry_run, script
from memstore_rl.reproduction.plan import Plan, PlanFile, read_plan
from memstore_rl.reproduction.run import Reproduction, reproduce

__all__ = ["Plan", "PlanFile", "Reproduction", "dry_run", "read_plan", "reproduce", "script"]
