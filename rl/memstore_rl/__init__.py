"""Rewards for policy optimisation.

Folders, low to high; each imports only from those above it:

sandbox/       runs untrusted programs against tests
benchmarks/    benchmark questions, files of queries, splits and label budgets
verifiers/     ground truth: compare an answer with its gold answer
rewards/       score groups: ground truth for labelled queries, the reward model for the rest
service/       the reward service and its clients
rollout/       sample responses from a policy
grade/         grade rollouts into scores of a policy
trainers/      hooks for verl and TRL
testing/       test doubles of an endpoint and of benchmarks
"""
