"""Reward hooks for training frameworks.

group_reward.py    one function for trainers without a hook of their own
hook.py            `Hook`: scores a trainer's batch with the reward service
hook_settings.py   its settings, from the environment
rows.py            rows of a batch as whole groups
unscored.py        rewards without a value
metrics.py         what a hook tells its trainer about a batch
conformance/       what every hook does, and how it is checked
slime.py, miles.py, openrlhf.py, art.py, skyrl.py, tinker_cookbook.py, nemo_rl.py, areal.py
                   hooks of these trainers over the reward service
stopped.py         ends the process of a trainer that only logs errors
trl.py             a reward function for TRL's `GRPOTrainer`
verl/              training data, reward hooks, configuration and checks for verl
"""
