"""Rewards for policy optimisation.

Folders, low to high; each imports only from those above it:

sandbox/       runs untrusted programs against tests
benchmarks/    benchmark questions, files of queries, splits and label budgets
verifiers/     ground truth: compare an answer with its gold answer
rewards/       score groups: ground truth for labelled queries, the reward model for the rest
service/       the reward service and its clients
rollout/       sample responses from a policy
grade/         grade rollouts into scores of a policy
trainers/      hooks for verl, TRL and other trainers
training_data/ exports scored rollouts for supervised fine-tuning and preference optimisation
testing/       test doubles of an endpoint and of benchmarks

`memstore_rl.group_reward` scores the completions of any trainer in whole groups with the reward service.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memstore_rl.trainers.group_reward import group_reward

__all__ = ["group_reward"]


def __getattr__(name: str) -> Any:
    """Import `group_reward` when it is used, so that the other modules need no HTTP client."""
    if name == "group_reward":
        from memstore_rl.trainers.group_reward import group_reward

        return group_reward
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
